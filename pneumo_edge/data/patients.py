"""Reads patients from file names, and finds images that are copies of one another by their names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pneumo_edge._util import subprocesses
from pneumo_edge.errors import DataError, PatternError

# Text after a name's last number was added by a tool or a copy: "_jpeg.rf.2c26", " (1)". So was text before the name
# that ends in punctuation, or that says "copy of".
_BEFORE = r"(?:^|(?<=[_.-])|(?<= of )|(?<=kopie von )|(?<=copie de )|(?<=copia de ))"
_BEHIND = r"(?!\d)"
#: Names of the Kermany data set: pneumonia and normal images as on Kaggle, and both as on Mendeley.
#: Tools that rename files replace the separators.
_PNEUMONIA_NAME = re.compile(
    _BEFORE + r"(?P<person>person\d+)[ _-](?P<kind>bacteria|virus)(?:[ _-]\d+)+" + _BEHIND, re.IGNORECASE
)
_NORMAL_NAME = re.compile(_BEFORE + r"(?P<study>(?:NORMAL2[ _-])?IM[ _-]\d+)(?:[ _-]\d+)+" + _BEHIND, re.IGNORECASE)
_MENDELEY_NAME = re.compile(
    _BEFORE + r"(?P<disease>NORMAL|BACTERIA|VIRUS)[ _-](?P<person>\d+)[ _-]\d+" + _BEHIND, re.IGNORECASE
)

_ENDING = r"(?:jpe?g|png|bmp|tiff?|webp|gif|dcm|dicom)"
#: The ending that only Roboflow adds.
_ROBOFLOW = re.compile(rf"(?:[_.-]{_ENDING})?\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)
#: Marks of a file made from another: the second ending of a conversion, or the step of an augmentation.
_MADE = re.compile(
    rf"[_.-]{_ENDING}$|[ _.-](?:aug(?:ment(?:ed|ation)?)?|[hv]?flip(?:ped)?|mirror(?:ed)?|rot(?:at(?:ed?|ion))?"
    r"|shear(?:ed)?|shift(?:ed)?|transl(?:ated?)?|zoom(?:ed)?|crop(?:ped)?|scaled?|resized?|bright(?:ness|er)?"
    r"|dark(?:er)?|contrast|gamma|noisy?|noise|blur(?:red)?|sharp(?:ened)?|clahe|equali[sz]ed|enhanced"
    r"|gr[ea]y(?:scale)?|inverted|edit(?:ed)?|q\d+|\d+x\d+)(?:[ _.-]?\d+)*$",
    re.IGNORECASE,
)
#: Marks that file managers add after or before the name of a copy.
_COPIED = re.compile(
    r" ?\(\d+\)$|[ _-]+(?:copy|kopie|copie|copia|c\u00f3pia|kopia)(?:[ _-]?\(?\d+\)?)?$|(?<=\S) \d+$|~$"
    r"|^(?:copy(?: \(\d+\))? of|kopie von|copie de|copia de) ",
    re.IGNORECASE,
)

#: Time limit in seconds of a pattern for all names; a pattern that takes longer backtracks endlessly.
_SECONDS = 20.0


@dataclass(frozen=True)
class _Question:
    pattern: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Answer:
    """``patients`` is in the order of the names, with "" for names without a match."""

    patients: tuple[str, ...]


def parse_patient(stem: str) -> tuple[str, str] | None:
    """Read patient and kind of pneumonia from a file name of the Kermany data set, on Kaggle or on Mendeley.

    Additions by copying, converting and augmenting are ignored. The separator may be ``-``, ``_`` or a space. The
    number of a person is used without the kind, which groups more images rather than fewer.

    Args:
        stem: The file's name without its ending.

    Returns:
        (patient, kind), where kind is ``"bacteria"``, ``"virus"`` or "" for a normal image; None if the name has
        another form.
    """
    if match := _PNEUMONIA_NAME.search(stem):
        return match["person"].lower(), match["kind"].lower()
    if match := _NORMAL_NAME.search(stem):
        return re.sub("[ _]", "-", match["study"].upper()), ""
    if match := _MENDELEY_NAME.search(stem):
        disease = match["disease"].lower()
        return match["person"], "" if disease == "normal" else disease
    return None


def check_pattern(pattern: str) -> None:
    """Check a pattern for patients.

    Args:
        pattern: A regular expression of Python's ``re`` with one group, or with a group named ``patient``.

    Raises:
        PatternError: It is not a regular expression, has no group, or has several groups and none named ``patient``.
    """
    _compile(pattern)


def find_patients(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Read patients from names by the user's pattern.

    The pattern is searched for in the file name without its ending, then with it, then in the whole path in the same
    two forms. This runs in a child process, because some patterns take practically forever on one name.

    Args:
        pattern: As for :func:`check_pattern`.
        names: Paths below the class folder, with "/".

    Returns:
        For each name the match of the group; "" if the pattern was not found or its group is empty.

    Raises:
        PatternError: As :func:`check_pattern`; or the pattern took longer than 20 s.
        DataError: The pattern finds no patient in any of the names.
    """
    check_pattern(pattern)

    def crashed(how: str) -> PatternError:
        return PatternError(
            f"the patient pattern {pattern!r} cannot be searched for ({how})",
            "a pattern without nested repetition such as (a+)+",
            "Simplify the pattern",
        )

    found = subprocesses.call(_find, _Question(pattern, tuple(names)), crashed, seconds=_SECONDS).patients
    if names and not any(found):
        raise DataError(
            f"the patient pattern {pattern!r} finds a patient in none of {len(names):,} names, such as {names[0]!r}",
            "a pattern whose group matches the patient in each name",
            r"Try it with `pneumo-edge data audit`, for example as --patient-pattern '^(p\d+)_'",
        )
    return found


def find_originals(stems: Sequence[str]) -> list[str]:
    """Group files that are copies of one another by their names, for names without a patient.

    A name is that of a copy in three cases: it has Roboflow's mark; it ends with the mark of an augmentation after a
    number; or another file has the same name without the mark. So ``Normal (1)`` to ``Normal (900)``, which were only
    renamed together, are no copies.

    Args:
        stems: Names without their endings, such as ``a/img001 (1)``.

    Returns:
        For each name the name of its original, its own name if it has copies, or "" if it has none.
    """
    present = {stem.casefold() for stem in stems}
    roots = []
    for stem in stems:
        root = ""
        for shorter, is_certain in _shorten(stem):
            if is_certain or shorter.casefold() in present:
                root = shorter.casefold()
        roots.append(root)
    copied = set(roots)
    return [
        root or (stem.casefold() if stem.casefold() in copied else "") for stem, root in zip(stems, roots, strict=True)
    ]


def _shorten(stem: str) -> Iterator[tuple[str, bool]]:
    """Remove one mark after another from a name; yield each result, and whether it is certainly an original's name."""
    folder, slash, name = stem.rpartition("/")
    while True:
        for marks in (_ROBOFLOW, _MADE, _COPIED):
            shorter = marks.sub("", name)
            if shorter and shorter != name:
                is_certain = marks is _ROBOFLOW or (marks is _MADE and any(map(str.isdigit, shorter)))
                yield f"{folder}{slash}{shorter}", is_certain
                name = shorter
                break
        else:
            return


def _compile(pattern: str) -> re.Pattern[str]:
    expected = r"a regular expression with one group, as in ^(p\d+)_"
    try:
        with warnings.catch_warnings(action="ignore"):
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(
            f"the patient pattern {pattern!r} cannot be read ({error})",
            expected,
            "See the documentation of Python's `re` for the syntax",
        ) from error
    if compiled.groups != 1 and "patient" not in compiled.groupindex:
        raise PatternError(
            f"the patient pattern {pattern!r} has {compiled.groups or 'no'} groups",
            expected,
            "Put the patient's part in parentheses, or in (?P<patient>...); write other groups as (?:...)",
        )
    return compiled


def _find(question: _Question) -> _Answer:
    compiled = _compile(question.pattern)
    group = "patient" if "patient" in compiled.groupindex else 1

    def find(name: str) -> str:
        path = PurePosixPath(name)
        texts = (path.stem, path.name, str(path.with_suffix("")), name)
        return next((match[group] for text in texts if (match := compiled.search(text)) and match[group]), "")

    return _Answer(tuple(map(find, question.names)))
