"""A table of labels beside a folder of images: which row is of which file, and what its columns say."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import posixpath
import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pneumo_edge._util import extras
from pneumo_edge.data import layout
from pneumo_edge.data.classes import opposite, option, same
from pneumo_edge.data.datasource import UNCERTAIN, DataSource, split_classes
from pneumo_edge.data.layout import (
    LABELS_DIFFER,
    NO_IMAGE_OF_ROW,
    NO_LABEL,
    NO_ROW,
    NO_SPLIT,
    PATIENTS_DIFFER,
    SEVERAL,
    SPLITS_DIFFER,
    Listing,
    Located,
    SplitName,
)
from pneumo_edge.errors import DataError, printable

#: Usual names of columns, the likeliest first, without case, spaces and punctuation: those of RSNA, NIH ChestX-ray14,
#: CheXpert, MIMIC-CXR and CoronaHack among them.
_COLUMNS = {
    "image": ("image", "imageid", "imageindex", "imagename", "imagefile", "imagepath", "xrayimagename", "filename",
              "file", "filepath", "path", "img", "imgname", "dicomid", "name", "patientid"),
    "label": ("label", "labels", "class", "classname", "target", "findinglabels", "finding", "findings", "diagnosis",
              "category", "pathology"),
    "patient": ("patient", "patientid", "patientname", "subject", "subjectid", "person", "personid", "caseid"),
    "split": ("split", "subset", "set", "partition", "datasettype"),
    "kind": ("kind", "subtype", "label1viruscategory"),
}  # fmt: skip
#: Columns of these names say nothing of what 1 in them means.
_UNNAMED = frozenset(_COLUMNS["label"]) - {"pathology"}
_FLAGS = frozenset(("0", "1", "-1", ""))
#: What tables call images in which nothing was found, in any case.
_NO_FINDING = frozenset(("no finding", "no findings", "normal", "healthy"))
#: A folder of CheXpert's images.
_PATIENT_FOLDER = re.compile(r"patient\d+", re.IGNORECASE)
_MOST_NAMED = 30
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class _Row:
    image: str
    findings: tuple[str, ...]
    patient: str
    split: str
    kind: str


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its ending."""
    return path.suffix.lower() in (".csv", *_PARQUET)


def read_listing(root: Path, data: DataSource) -> Listing:
    """Find the images of a folder that have a row in a table.

    Args:
        root: The folder of images.
        data: Says which table, and how it is read.

    Raises:
        DataError: The table cannot be read, lacks a column, or no row of it has an image.
        MissingExtraError: It is a Parquet file, and pyarrow is not installed.
    """
    assert data.labels is not None
    table = Path(data.labels)
    images, others = layout.read_images(root)
    finder = _Finder(images, root)
    found, remarks = _rows(table, data)
    rows, without = _assign(found, finder)
    if not rows:
        raise _no_image(table, root, next(iter(without), ""), finder)
    passed_over = {f"{table.name}: {name}": why for name, why in without.items()}
    names = {same(name) for of_image in rows.values() for row in of_image for name in row.findings}
    split_of = _splits((row.split for of_image in rows.values() for row in of_image), table)
    differing: dict[str, str] = {}
    files: list[Located] = []
    for path in images:
        name = layout.shown_name(path, root)
        if path not in rows:
            passed_over[name] = NO_ROW
            continue
        of_image = rows[path]
        findings = dict.fromkeys(finding for row in of_image for finding in row.findings)
        if not findings:
            passed_over[name] = NO_LABEL
            continue
        splits = {split_of[row.split] for row in of_image if row.split}
        patients = list(dict.fromkeys(row.patient for row in of_image if row.patient))
        if _exclude_each_other([row.findings for row in of_image], are_two=len(names) == 2):
            differing[name] = LABELS_DIFFER
        elif len(splits) > 1 or len(patients) > 1:
            differing[name] = SPLITS_DIFFER if len(splits) > 1 else PATIENTS_DIFFER
        else:
            inner, kind = path.relative_to(root), of_image[0].kind
            files.append(
                Located(
                    path,
                    name,
                    name,
                    splits.pop() if splits else _split_folder(inner),
                    tuple((kind, finding) if kind else (finding,) for finding in findings),
                    kind,
                    0,
                    patients[0] if patients else _patient_folder(inner),
                )
            )
    if differing and not files:
        name, why = next(iter(differing.items()))
        raise DataError(
            f"no image of {table} can be used, such as {name}: {why}",
            "rows of one image with one label, split and patient",
            "Correct the table, or name the column of the image with --image-column",
        )
    passed_over |= differing
    if any(file.split for file in files):
        passed_over |= {file.name: NO_SPLIT for file in files if file.split is None}
        files = [file for file in files if file.split]
    return Listing(tuple(files), passed_over | others, remarks=remarks)


def describe_unmatched(passed_over: Mapping[str, str]) -> str:
    """Rows without an image and images without a row, counted, each with the first of them; "" if there are none."""
    told = []
    for reason, one, several in (
        (NO_IMAGE_OF_ROW, "row has no image", "rows have no image"),
        (NO_ROW, "image has no row", "images have no row"),
    ):
        if names := [name for name, why in passed_over.items() if why == reason]:
            told.append(f"{len(names):,} {one if len(names) == 1 else several}, such as {printable(names[0])}")
    return ", and ".join(told)


def _exclude_each_other(findings: Sequence[tuple[str, ...]], *, are_two: bool) -> bool:
    """Whether rows of one image contradict each other.

    Several rows may tell several findings of an image. But one of two classes excludes the other (``are_two``), and
    that nothing was found excludes all findings.
    """
    if len(findings) == 1:
        return False
    return any(
        one.isdisjoint(other) and (are_two or (one <= _NO_FINDING) != (other <= _NO_FINDING))
        for one, other in itertools.combinations({frozenset(map(same, each)) for each in findings if each}, 2)
    )


def _splits(words: Iterable[str], table: Path) -> dict[str, SplitName]:
    """The split that each word means."""
    found = {word: layout.split_of(word) for word in dict.fromkeys(words) if word}
    if unknown := [word for word, split in found.items() if split is None]:
        raise DataError(
            f"{table} has the {'split' if len(unknown) == 1 else 'splits'} {', '.join(map(repr, unknown[:5]))}"
            + (f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""),
            "train, val or test",
            "Write these in the table, or name another column with --split-column",
        )
    return {word: split for word, split in found.items() if split is not None}


def _split_folder(inner: Path) -> SplitName | None:
    return next((split for part in inner.parts[:-1] if (split := layout.split_of(part))), None)


def _patient_folder(inner: Path) -> str:
    return next((part for part in inner.parts[:-1] if _PATIENT_FOLDER.fullmatch(part)), "")


@dataclass(frozen=True)
class _Match:
    """A file that a row may mean.

    ``above`` is how many folders of the row are those above the images, from the images upwards. ``contradicts`` is
    whether the row has further folders, which are others than those on this machine.
    """

    path: Path
    above: int
    contradicts: bool


class _Finder:
    """Finds the file that a row means: by its path, by the end of its path, by its name, by its name without ending.

    Folders in a row are never ignored: in many data sets each patient has a file of the same name.
    """

    def __init__(self, images: Sequence[Path], root: Path) -> None:
        self._inner = [(path, PurePosixPath(*_parts(path.relative_to(root).as_posix()))) for path in images]
        self._whole: tuple[dict[str, list[Path]], ...] = (defaultdict(list), defaultdict(list))
        for path, inner in self._inner:
            self._whole[0][str(inner)].append(path)
            self._whole[1][str(inner.with_suffix(""))].append(path)
        self._ends: dict[int, tuple[dict[str, list[Path]], ...]] = {}
        self._above = {tuple(_parts(path.as_posix())) for path in (root.absolute(), root.resolve())}

    def find(self, name: str) -> _Match | str:
        """The file, or why there is none."""
        parts = _parts(name)
        if not parts:
            return NO_IMAGE_OF_ROW
        bare = [*parts[:-1], PurePosixPath(parts[-1]).stem]
        for found in (
            self._below(parts, 0)[:1],
            self._below(parts, 1)[:1],
            self._ending(parts, 0),
            self._ending(parts, 1),
            self._below(bare, 1) + self._ending(bare, 1),
        ):
            matches = {match.path: match for each in found for match in each}
            if matches:
                return next(iter(matches.values())) if len(matches) == 1 else SEVERAL
        return NO_IMAGE_OF_ROW

    def _below(self, parts: Sequence[str], number: int) -> list[list[_Match]]:
        """Files whose whole path is the end of the row's, the longest first: the row may count from a folder above."""
        found = []
        for start in range(len(parts)):
            if paths := self._whole[number].get("/".join(parts[start:])):
                above = max(_agreeing(parts[:start], folders) for folders in self._above)
                # A file right in the folder of the images has no other folder that could agree.
                if start == 0 or above or start < len(parts) - 1:
                    found.append([_Match(path, above, above < start) for path in paths])
        return found

    def _ending(self, parts: Sequence[str], number: int) -> list[list[_Match]]:
        """Files whose path ends as the row's."""
        length = len(parts)
        if length not in self._ends:
            ends = self._ends[length] = (defaultdict(list), defaultdict(list))
            for path, inner in self._inner:
                if len(inner.parts) >= length:
                    ends[0]["/".join(inner.parts[-length:])].append(path)
                    ends[1]["/".join((*inner.parts[-length:-1], inner.stem))].append(path)
        paths = self._ends[length][number].get("/".join(parts), [])
        return [[_Match(path, 0, contradicts=False) for path in paths]]


def _parts(name: str) -> list[str]:
    """Folders and name of a path, without what names no folder: a root, "." and a leading "..".

    In one form of Unicode: macOS has letters with accents as two characters (NFD), tables as one (NFC).
    """
    path = unicodedata.normalize("NFC", posixpath.normpath(name.strip().replace("\\", "/")))
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def _agreeing(folders: Sequence[str], others: Sequence[str]) -> int:
    """How many folders at the end of two paths are the same."""
    pairs = zip(reversed(folders), reversed(others), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), min(len(folders), len(others)))


def _assign(rows: Iterable[_Row], finder: _Finder) -> tuple[dict[Path, list[_Row]], dict[str, str]]:
    """The rows of each file, and for rows without one the reason by the path in the row."""
    found = [(row, finder.find(row.image)) for row in rows]
    # The images lie in one place: of rows with other folders above it, those that agree most are of these images.
    most = max((match.above for _, match in found if isinstance(match, _Match)), default=0)
    of_file: dict[Path, list[_Row]] = defaultdict(list)
    without: dict[str, str] = {}
    for row, match in found:
        if isinstance(match, str):
            without[row.image] = match
        elif match.contradicts and match.above < most:
            without[row.image] = NO_IMAGE_OF_ROW
        else:
            of_file[match.path].append(row)
    return of_file, without


def _rows(table: Path, data: DataSource) -> tuple[list[_Row], tuple[str, ...]]:
    """The rows of a table, and what a user may not expect of how they are read."""
    columns = _read(table)
    wanted = {what: getattr(data, f"{what}_column") for what in _COLUMNS}
    found = {what: _column(columns, what, name) for what, name in wanted.items()}
    if absent := {what: name for what, name in wanted.items() if name is not None and found[what] is None}:
        raise DataError(
            f"{table} has no column {' and no column '.join(map(repr, absent.values()))}",
            f"one of {_listed(columns)}",
            f"Give another {' and another '.join(f'--{what}-column' for what in absent)}",
        )
    image = found["image"]
    if image is None:
        has_labels = found["label"] is not None or data.positive is not None or bool(_flags(columns))
        raise _no_column(table, columns, "image", *([] if has_labels else ["label"]))
    if found["patient"] == image:
        # RSNA's patientId is one for each image.
        found["patient"] = None
    found["label"], labels, meaning = _findings(columns, table, data, found["label"])
    texts = {what: columns[name] if name is not None else None for what, name in found.items()}
    rows = []
    for number, (name, of_row) in enumerate(zip(columns[image], labels, strict=True)):
        cells = {what: cells[number] if cells is not None else "" for what, cells in texts.items()}
        if name:
            rows.append(_Row(name, of_row, cells["patient"], cells["split"], cells["kind"]))
    return rows, (*_describe_choice(columns, found, [what for what, name in wanted.items() if name is None]), *meaning)


def _describe_choice(
    columns: Mapping[str, list[str]], found: Mapping[str, str | None], unasked: Iterable[str]
) -> Iterator[str]:
    """Name the columns that might have been meant in place of those that were taken without being asked for."""
    for what in unasked:
        name = found[what]
        others = [
            each
            for each in columns
            if _key(each) in _COLUMNS[what] and each not in found.values() and name and columns[each] != columns[name]
        ]
        # Of columns for the image, one that is wrong has no files.
        if others and what != "image":
            yield (
                f"the {what} of an image is read from the column {name}, not from {' or '.join(others)}; "
                f"--{what}-column names another"
            )


def _column(columns: Mapping[str, list[str]], what: str, wanted: str | None) -> str | None:
    if wanted is not None:
        exact = [name for name in columns if name == wanted] or [name for name in columns if _key(name) == _key(wanted)]
        return exact[0] if exact else None
    by_key = {_key(name): name for name in reversed(list(columns))}
    return next((by_key[key] for key in _COLUMNS[what] if key in by_key), None)


def _findings(
    columns: Mapping[str, list[str]], table: Path, data: DataSource, usual: str | None
) -> tuple[str | None, list[tuple[str, ...]], tuple[str, ...]]:
    """The column of labels, if it is one, what each row finds in its image, and what a user may not expect of it."""
    name = usual
    if usual is None and (one_hot := _one_hot(columns, data)):
        return None, one_hot, ()
    if data.label_column is None and data.positive is not None:
        # CheXpert has a column for each finding.
        own = next((column for column in columns if same(column) == same(str(data.positive))), None)
        odd = [cell for cell in columns[own] if cell not in _FLAGS] if own is not None else []
        if odd and usual is None:
            raise DataError(
                f"the column {own} of {table} has '{printable(odd[0])}' ({_rows_of(len(odd))} with such values)",
                "1, 0, -1 for uncertain, or nothing in the column of a finding",
                "Correct these cells, or name the column of labels with --label-column",
            )
        if own is not None and not odd:
            name = own
    if name is None:
        flags = _flags(columns)
        if flags and data.positive is None:
            counts = [sum(columns[flag][row] == "1" for flag in flags) for row in range(len(columns[flags[0]]))]
            odd_rows = sum(count != 1 for count in counts)
            raise DataError(
                f"{table} has no column of labels, and a column for each of {_listed(flags)}"
                + (f", with none or several of them 1 in {_rows_of(odd_rows)}" if odd_rows else ""),
                "the finding to look for, or classes of which each row has one 1",
                f"Give --positive {shlex.quote(printable(flags[0]))}, or another of them"
                + (f", or {option(flags)}" if len(flags) > 1 and not odd_rows else ""),
            )
        raise _no_column(table, columns, "label")
    cells = columns[name]
    if not set(cells) <= _FLAGS or "1" not in cells:
        return name, [tuple(part.strip() for part in cell.split("|") if part.strip()) for cell in cells], ()
    return name, *_of_flags(cells, name, table, data)


def _one_hot(columns: Mapping[str, list[str]], data: DataSource) -> list[tuple[str, ...]]:
    """The class of each row, where the classes that the user names are columns, and each row has one 1 in them.

    If each row has one 1 in all columns of 1 and 0, classes may be left out.
    """
    named = {same(old) for old, _ in split_classes(data.classes)} if data.classes is not None else set()
    flags = _flags(columns)
    wanted = [column for column in flags if same(column) in named]
    if len(wanted) < 2 or len(wanted) < len(named):
        return []
    for chosen in (wanted, flags):
        found = [tuple(name for name in chosen if columns[name][row] == "1") for row in range(len(columns[chosen[0]]))]
        if all(len(of_row) == 1 for of_row in found):
            return found
    return []


def _rows_of(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _flags(columns: Mapping[str, list[str]]) -> list[str]:
    """Columns of 1 and 0."""
    return [column for column, cells in columns.items() if set(cells) <= _FLAGS and set(cells) & {"1"}]


def _of_flags(
    cells: Sequence[str], name: str, table: Path, data: DataSource
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Findings of a column of 1, 0 and, for what is uncertain, -1, and what a user may not expect of them."""
    is_named = _key(name) not in _UNNAMED
    positive = name if is_named else data.positive
    numbers = {old for old, _ in split_classes(data.classes or "0")} & {"0", "1"}
    remarks: tuple[str, ...] = ()
    if positive is None or positive in ("0", "1") or (data.classes is not None and numbers and not is_named):
        yes, no = "1", "0"
    else:
        yes, no = positive, opposite(positive)
        if not is_named:
            remarks = (
                f"1 in the column {name} is taken for {yes}, and 0 for {no}; --classes 0=NAME,1=NAME names them",
            )
    meaning: dict[str, tuple[str, ...]] = {"1": (yes,), "0": (no,), "": (no,) if is_named else ()}
    if "-1" in cells:
        if data.uncertain_labels is None:
            count = cells.count("-1")
            raise DataError(
                f"{table} calls {name} uncertain (-1) in {_rows_of(count)}",
                f"what that means: {', '.join(UNCERTAIN)}",
                "Give --uncertain-labels ignore to leave these images out, or ones or zeros",
            )
        meaning["-1"] = {"ones": (yes,), "zeros": (no,), "ignore": ()}[data.uncertain_labels]
    return [meaning[cell] for cell in cells], remarks


def _read(table: Path) -> dict[str, list[str]]:
    """The columns of a table as text, without spaces around it."""
    if table.suffix.lower() in _PARQUET:
        return _read_parquet(table)
    try:
        content = table.read_bytes()
        # Excel saves "Unicode text" in UTF-16, with a mark at the beginning.
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{table} does not exist", "a table of labels", "Give another path with --labels") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise DataError(f"{table} cannot be read ({reason})", "a CSV file in UTF-8", "Save it as one") from error
    head = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    first_lines: list[int] = []
    try:
        header = next((row for row in reader if row), [])
        line = reader.line_num + 1
        for row in reader:
            if any(map(str.strip, row)):
                rows.append(row)
                first_lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{table} cannot be read as a table ({error})", "a CSV file with a header", "Save it as one"
        ) from error
    twice = next((name for name, count in Counter(map(str.strip, header)).items() if name and count > 1), None)
    if twice is not None:
        raise DataError(
            f"{table} has several columns called {printable(twice)}",
            "a name of its own for each column",
            "Rename or remove all but one of them",
        )
    if not rows:
        raise DataError(
            f"{table} has no rows", "a CSV file with a header and a row for each image", "Give another table"
        )
    odd = next((number for number, row in enumerate(rows) if len(row) != len(header)), None)
    if odd is not None:
        count = len(rows[odd])
        raise DataError(
            f"line {first_lines[odd]:,} of {table} has {count:,} {'cell' if count == 1 else 'cells'}",
            f"{len(header)}, as many as its header",
            "Quote cells that hold a separator",
        )
    return {
        name.strip(): [_cell(cell) for cell in cells]
        for name, cells in zip(header, zip(*rows, strict=True), strict=True)
    }


def _read_parquet(table: Path) -> dict[str, list[str]]:
    parquet = extras.need("pyarrow.parquet", "parquet", "pyarrow")
    try:
        found: dict[str, list[Any]] = parquet.read_table(table).to_pydict()
    except FileNotFoundError as error:
        raise DataError(f"{table} does not exist", "a table of labels", "Give another path with --labels") from error
    except Exception as error:  # pyarrow's errors have no base class of their own
        raise DataError(f"{table} cannot be read ({error})", "a Parquet file", "Save it as one") from error
    return {name: ["" if cell is None else _cell(_text(cell)) for cell in cells] for name, cells in found.items()}


def _text(cell: Any) -> str:
    if isinstance(cell, list):
        return "|".join(map(_text, cell))
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)


def _cell(text: str) -> str:
    """Text without spaces around it; a whole number that is written as a fraction, as pandas does it, as it is."""
    text = text.strip()
    if re.fullmatch(r"-?\d+\.0+", text):
        return text.partition(".")[0]
    return "" if text.casefold() in ("nan", "<na>") else text


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _no_image(table: Path, root: Path, name: str, finder: _Finder) -> DataError:
    parts = _parts(name)
    if len(parts) > 1 and isinstance(finder.find(parts[-1]), _Match):
        remedy = (
            f"Call this folder {printable(parts[-2])}, as the table does, or give a table with names of files alone"
        )
    else:
        remedy = "Name the column with --image-column, or give the folder of the images"
    return DataError(
        f"no row of {table} names an image in {root}, such as {printable(name) or 'a row'}",
        "names of files, or their paths with the folders that they lie in",
        remedy,
    )


def _no_column(table: Path, columns: Iterable[str], *missing: str) -> DataError:
    meanings = {"image": "the file of each image", "label": "the class of each image"}
    return DataError(
        f"{table} has the columns {_listed(columns)}",
        " and ".join(f"one that tells {meanings[what]}, such as {', '.join(_COLUMNS[what][:3])}" for what in missing),
        f"Name {'it' if len(missing) == 1 else 'them'} with {' and '.join(f'--{what}-column' for what in missing)}",
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(printable(name) for name in names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} more"
