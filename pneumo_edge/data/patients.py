"""Whose X-ray an image is, as far as its name tells; and which images are copies of another, by their names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pneumo_edge._util import subprocesses
from pneumo_edge.errors import DataError, PatternError

# Whatever stands behind a name, after its last number, was added by a tool or a copy: "_jpeg.rf.2c26", " (1)". What
# stands before it was, where it ends in punctuation, or says that this is a copy.
_BEFORE = r"(?:^|(?<=[_.-])|(?<= of )|(?<=kopie von )|(?<=copie de )|(?<=copia de ))"
_BEHIND = r"(?!\d)"
#: Names of the Kermany data set: pneumonia and normal images as on Kaggle, and both as on Mendeley.
#: Tools that rename files put one sign between parts for another.
_PNEUMONIA_NAME = re.compile(
    _BEFORE + r"(?P<person>person\d+)[ _-](?P<kind>bacteria|virus)(?:[ _-]\d+)+" + _BEHIND, re.IGNORECASE
)
_NORMAL_NAME = re.compile(_BEFORE + r"(?P<study>(?:NORMAL2[ _-])?IM[ _-]\d+)(?:[ _-]\d+)+" + _BEHIND, re.IGNORECASE)
_MENDELEY_NAME = re.compile(
    _BEFORE + r"(?P<disease>NORMAL|BACTERIA|VIRUS)[ _-](?P<person>\d+)[ _-]\d+" + _BEHIND, re.IGNORECASE
)

_ENDING = r"(?:jpe?g|png|bmp|tiff?|webp|gif|dcm|dicom)"
#: What Roboflow writes behind a name; nothing else does.
_ROBOFLOW = re.compile(rf"(?:[_.-]{_ENDING})?\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)
#: What says that a file was made from another: the second ending of a conversion, or the step of an augmentation.
_MADE = re.compile(
    rf"[_.-]{_ENDING}$|[ _.-](?:aug(?:ment(?:ed|ation)?)?|[hv]?flip(?:ped)?|mirror(?:ed)?|rot(?:at(?:ed?|ion))?"
    r"|shear(?:ed)?|shift(?:ed)?|transl(?:ated?)?|zoom(?:ed)?|crop(?:ped)?|scaled?|resized?|bright(?:ness|er)?"
    r"|dark(?:er)?|contrast|gamma|noisy?|noise|blur(?:red)?|sharp(?:ened)?|clahe|equali[sz]ed|enhanced"
    r"|gr[ea]y(?:scale)?|inverted|edit(?:ed)?|q\d+|\d+x\d+)(?:[ _.-]?\d+)*$",
    re.IGNORECASE,
)
#: What file managers write behind the name of a copy, or before it.
_COPIED = re.compile(
    r" ?\(\d+\)$|[ _-]+(?:copy|kopie|copie|copia|c\u00f3pia|kopia)(?:[ _-]?\(?\d+\)?)?$|(?<=\S) \d+$|~$"
    r"|^(?:copy(?: \(\d+\))? of|kopie von|copie de|copia de) ",
    re.IGNORECASE,
)

#: A pattern is given so many seconds for all names; one that takes them tries the same text over and over.
_SECONDS = 20.0


@dataclass(frozen=True)
class _Question:
    pattern: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Answer:
    """``patients`` is in the order of the names, with "" where the pattern finds none."""

    patients: tuple[str, ...]


def parse_patient(stem: str) -> tuple[str, str] | None:
    """Read patient and kind of pneumonia from a file name of the Kermany data set, on Kaggle or on Mendeley.

    What copying, converting and augmenting add to a name does not matter, nor whether its parts stand apart by ``-``,
    ``_`` or a space. A person's number is taken without its
    kind, which groups more images rather than fewer.

    Args:
        stem: The file's name without its ending.

    Returns:
        (patient, kind), where kind is ``"bacteria"``, ``"virus"`` or "" for a normal image; None where
        the name is not of these patterns.
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
    """Refuse a pattern that tells no patient.

    Args:
        pattern: A regular expression of Python's, with one group, or with one that is called ``patient``.

    Raises:
        PatternError: It is none, or has no group, or several and none of that name.
    """
    _compile(pattern)


def find_patients(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Read patients from names by a pattern of the user's.

    It is searched for in the file's name, first without the ending, then with it, then in the whole of the name
    likewise. This happens in a process of its own, because a pattern can take more than a lifetime over one name.

    Args:
        pattern: As for :func:`check_pattern`.
        names: Paths below the class folder, with "/".

    Returns:
        For each name what the group matched, and "" where the pattern was not found or its group is empty.

    Raises:
        PatternError: As :func:`check_pattern`; or the pattern took longer than 20 s.
        DataError: The pattern finds no patient in any of the names.
    """
    check_pattern(pattern)

    def crashed(how: str) -> PatternError:
        return PatternError(
            f"the patient pattern {pattern!r} cannot be searched for ({how})",
            "one that does not repeat what is repeated, as in (a+)+",
            "Write it more simply",
        )

    found = subprocesses.call(_find, _Question(pattern, tuple(names)), crashed, seconds=_SECONDS).patients
    if names and not any(found):
        raise DataError(
            f"the patient pattern {pattern!r} finds a patient in none of {len(names):,} names, such as {names[0]!r}",
            "one whose group matches the patient's part of each name",
            r"Try it with `pneumo-edge data audit`, for example as --patient-pattern '^(p\d+)_'",
        )
    return found


def find_originals(stems: Sequence[str]) -> list[str]:
    """Group files that are copies of one another by their names, where the names tell no patient.

    A name counts as a copy's where it was marked by Roboflow; where it ends as an augmentation's does and has a number
    before that; and where what is left without its mark is the name of another of the files. So ``Normal (1)`` to
    ``Normal (900)``, which only were named all at once, are no copies.

    Args:
        stems: Names without their endings, such as ``a/img001 (1)``.

    Returns:
        For each what it is a copy of, itself where it has copies, and "" where it has none.
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
    """Take mark after mark from a name; with each result whether it surely is that of an original."""
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
            "See Python's `re` for how it is written",
        ) from error
    if compiled.groups != 1 and "patient" not in compiled.groupindex:
        raise PatternError(
            f"the patient pattern {pattern!r} has {compiled.groups or 'no'} groups",
            expected,
            "Put the patient's part into brackets, or into (?P<patient>...); write other brackets as (?:...)",
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
