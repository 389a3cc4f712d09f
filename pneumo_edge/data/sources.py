"""Data sets as lists of samples: class folders, a table beside a folder of images, and MedMNIST's .npz files."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from pneumo_edge.data import carried, classes, layout, table
from pneumo_edge.data.datasource import DataSource, option, parse_shares
from pneumo_edge.data.drawn import DrawnSource
from pneumo_edge.data.layout import PHANTOM_MARKER, SPLITS, Listing, Located, SplitName
from pneumo_edge.data.medmnist import MedMnistSource
from pneumo_edge.data.patients import find_originals, find_patients, parse_patient
from pneumo_edge.data.samples import LABELS_OF, Labelled, Sample, Source, describe_counts
from pneumo_edge.errors import DataError, printable
from pneumo_edge.imaging import images
from pneumo_edge.task import PNEUMONIA, Task

__all__ = [
    "PHANTOM_MARKER", "SPLITS", "DataSource", "FolderSource", "Labelled", "MedMnistSource", "Sample",
    "Source", "SplitName", "describe_counts", "doubt_pattern", "open_source", "parse_patient", "recorded_path",
]  # fmt: skip

_LAYOUT = (
    "folders train/CLASS and test/CLASS, such as train/NORMAL and train/PNEUMONIA; folders CLASS with --split; a table "
    "with --labels; or a MedMNIST .npz"
)
_OTHER_TEST = f"Give another --test, or omit it and draw the test images with {option('split')} 80/10/10"
#: What is drawn of data that has a test split, or that is given one, and no other.
_TRAIN_AND_VAL = "90/10"


class FolderSource:
    """Images in a folder: class folders, with or without splits, or the files that a table names.

    Links to folders are followed. Files that are not used are in ``passed_over``.

    Args:
        root: The folder with the split folders, or with the class folders.
        data: How it is read. A pattern for patients is used as by :func:`pneumo_edge.data.patients.find_patients`;
            names without a match are read by the built-in rules.
        around: The folder that the user gave, if the root is a folder in it.
        task: The task of the models that the data is for.

    Raises:
        DataError: The folder has no such layout, its classes cannot be settled, or the pattern finds no patient.
        PatternError: As :func:`pneumo_edge.data.patients.find_patients`.
    """

    has_files = True

    def __init__(
        self, root: Path, data: DataSource | None = None, *, around: Path | None = None, task: Task | None = None
    ) -> None:
        data = data or DataSource(str(root))
        self.root = root
        self.patient_pattern = data.patient_pattern or ""
        self.options: dict[str, str] = data.options
        self.paths: dict[str, str] = data.paths
        self.real = not any((folder / PHANTOM_MARKER).exists() for folder in (root, around or root))
        self.title = f"folder {root.name}" if self.real else "phantom images (procedural, not real X-rays)"
        if data.labels is not None:
            self.title += LABELS_OF + Path(data.labels).name
        self.licence = "as its owner says" if self.real else "none needed"
        # All folders are classes where the user, or the models, name others than those of pneumonia.
        all_classes = data.classes is not None or data.positive is not None or task not in (None, PNEUMONIA)
        listing = _list(root, data, around, all_classes)
        if data.test is not None:
            listing = _with_test(listing, Path(data.test), data, all_classes)
        self.remarks = listing.remarks
        self._settle(listing, data, task)
        # A validation split in a table is used as it is.
        self.own_validation = data.labels is not None and any(file.split == "val" for file in self._files)
        self.rule = "as the table or the folders of its images have it" if self.own_validation else ""
        self.has_patients = any(sample.is_patient_known for sample in self.samples)

    @property
    def has_splits(self) -> bool:
        """Whether every image lies in a split, or a table gives it one."""
        return all(file.split for file in self._files)

    def _settle(self, listing: Listing, data: DataSource, task: Task | None) -> None:
        kinds = {file.name: file.kind for file in listing.files}
        parsed = {file.name: parse_patient(PurePosixPath(file.inner).stem) for file in listing.files}
        kinds |= {name: found[1] for name, found in parsed.items() if found and found[1]}
        findings = {file.name: _with_kind(file, kinds[file.name]) for file in listing.files}
        try:
            settled = classes.settle(
                Counter(findings.values()), data, str(self.root), task, merge_kinds=listing.merge_kinds
            )
        except DataError as error:
            if told := table.describe_unmatched(listing.passed_over):
                # It may be the reason that a class is missing.
                remedy = f"Correct the names in the table, if they differ. {error.remedy}"
                raise type(error)(f"{told}; {error.given}", error.expected, remedy) from error
            raise
        self.task = settled.task
        if self.real and self.task.is_of_x_rays:
            self.licence += "; the Kermany et al. 2018 images are CC BY 4.0"
        labels = {name: settled.label_of[found] for name, found in findings.items()}
        left_out = {f"class {name}": reason for name, reason in settled.left_out.items()}
        self.passed_over = listing.passed_over | left_out
        self._files = [file for file in listing.files if labels[file.name] is not None]
        self._labels = [label for file in self._files if (label := labels[file.name]) is not None]
        self._kinds = [kinds[file.name] for file in self._files]
        self._parsed = [parsed[file.name] for file in self._files]
        self._path_of = {file.name: file.path for file in self._files}
        _check_training(self.root, self._files, self._labels, self.task, self.passed_over)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every file in a class folder that may be an image, sorted by split, class and name.

        So a file that turns out not to be an image is reported with a reason, not skipped silently.
        """
        stems = [str(PurePosixPath(file.inner).with_suffix("")) for file in self._files]
        given = (
            find_patients(self.patient_pattern, [file.inner for file in self._files]) if self.patient_pattern else ()
        )
        patients = [
            (given[index] if given else "") or file.patient or (parsed[0] if parsed else "") or file.name
            for index, (file, parsed) in enumerate(zip(self._files, self._parsed, strict=True))
        ]
        unknown = [i for i, file in enumerate(self._files) if patients[i] == file.name]
        originals = find_originals([f"{self.task.class_names[self._labels[i]]}/{stems[i]}" for i in unknown])
        original_of = dict(zip(unknown, originals, strict=True))
        found = [
            Sample(
                file.name,
                file.split or "train",
                self._labels[index],
                patients[index],
                self._kinds[index],
                original_of.get(index, ""),
            )
            for index, file in enumerate(self._files)
        ]
        # Stable, so that those of one class stay in the order of their paths.
        return tuple(sorted(found, key=lambda sample: (SPLITS.index(sample.split), sample.label)))

    def path(self, sample: Sample) -> Path:
        """Return the path of a sample's file."""
        return self._path_of[sample.name]

    def read(self, sample: Sample) -> bytes:
        """Return the file's bytes; raises ImageError as :func:`pneumo_edge.imaging.images.read`."""
        return images.read(self.path(sample))


def open_source(
    data: str | os.PathLike[str] | DataSource, patient_pattern: str = "", task: Task | None = None
) -> Source:
    """Open a data set.

    Args:
        data: Its path, or a data source, which says how it is read: a folder with class folders (or with one folder
            that has them, as Kaggle's archives unpack), a folder of images with a table, or a MedMNIST ``.npz``.
        patient_pattern: A regular expression for patients in the names, as for
            :func:`pneumo_edge.data.patients.find_patients`; "" for that of the data source.
        task: The task of the models that the data is for, for the classes that the data source does not name.

    Raises:
        ArgumentError: An option of the data source cannot be read.
        DataError: The path does not exist or holds no data set, its classes or splits are not settled, or the pattern
            finds no patient.
        PatternError: The pattern cannot be used.
    """
    data = DataSource.of(data)
    if patient_pattern:
        data = replace(data, patient_pattern=patient_pattern)
    path = Path(data.path)
    if path.is_file() and path.suffix == ".npz":
        _check_npz(data)
        return MedMnistSource(path, data, task)
    if not path.is_dir():
        state = "is no folder and no MedMNIST .npz" if path.exists() else "does not exist"
        raise DataError(f"{path} {state}", _LAYOUT, "Give another path, or run: pneumo-edge data fetch")
    if (path / carried.NAME).is_file():
        return carried.CarriedSource(path)
    root = None if data.labels is not None else layout.find_root(path)
    source = FolderSource(root or path, data, around=None if root in (None, path) else path, task=task)
    return _in_splits(source, data)


def recorded_path(path: str, maker: Path) -> str:
    """The path of the data that a run or a study was made from.

    Raises:
        DataError: It is not there any more.
    """
    if not Path(path).exists():
        raise DataError(
            f"the data that {maker} was trained on is not at {path} any more",
            "a folder or file there, or its new path",
            f"Give the new path with --data, and {option('labels')} or {option('test')} if it was read with them",
        )
    return path


def _list(root: Path, data: DataSource, around: Path | None, all_classes: bool) -> Listing:
    if data.labels is not None:
        return table.read_listing(root, data)
    if layout.has_splits(root):
        listing: Listing | None = layout.read_listing(root, around, all_classes=all_classes)
    else:
        listing = layout.read_unsplit(root)
    if listing and listing.files:
        return listing
    tables = sorted(path for folder in (root, root.parent) for path in folder.iterdir() if table.is_table(path))
    remedy = f"Give --labels {printable(tables[0])}" if tables else "Give another path, or run: pneumo-edge data fetch"
    raise DataError(f"{root} has no data set", _LAYOUT, remedy)


def _with_test(listing: Listing, path: Path, data: DataSource, all_classes: bool) -> Listing:
    """The images of a data set, with those of another folder for its test split."""
    if own := sum(file.split == "test" for file in listing.files):
        raise DataError(
            f"{data.path} has a test split of its own, of {own:,} images",
            "data without one where --test is given",
            "Omit --test",
        )
    if not path.is_dir():
        raise DataError(
            f"the test folder {path} {'is no folder' if path.exists() else 'does not exist'}",
            "a folder with class folders",
            "Give another --test",
        )
    inner, outer = path.resolve(), Path(data.path).resolve()
    if inner == outer:
        raise DataError(f"the test folder {path} is the data folder itself", "a folder of other images", _OTHER_TEST)
    if data.labels is None and inner.is_relative_to(outer):
        raise DataError(
            f"the test folder {path} lies in the data folder {data.path}", "one beside it", "Move it, or name it test"
        )
    if outer.is_relative_to(inner):
        raise DataError(f"the data folder {data.path} lies in the test folder {path}", "one beside it", _OTHER_TEST)
    root = None if data.labels is not None else layout.find_root(path)
    other = _list(root or path, data, None, all_classes)
    tested = [file for file in other.files if file.split in ("test", None)] or list(other.files)
    # A table may be of both, and the test folder then in the other.
    inside = {file.path.resolve() for file in tested} if data.labels is not None else set()
    own_files = [file for file in listing.files if file.path.resolve() not in inside] if inside else listing.files
    taken = {file.name for file in own_files}
    return Listing(
        (*own_files, *(replace(file, split="test", name=_free(f"test/{file.name}", taken)) for file in tested)),
        listing.passed_over | {f"test/{name}": why for name, why in other.passed_over.items()},
        listing.merge_kinds and other.merge_kinds,
        listing.remarks,
    )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"test/{name}"
    taken.add(name)
    return name


def _with_kind(file: Located, kind: str) -> classes.Findings:
    """What is known of an image, with what the file's name tells of the kind of pneumonia."""
    if not kind or any(kind in finding for finding in file.findings):
        return file.findings
    return tuple((kind, *finding) if classes.known(finding[-1]) != (0, "") else finding for finding in file.findings)


def _check_training(
    root: Path, files: Sequence[Located], labels: Sequence[int], task: Task, passed_over: Mapping[str, str]
) -> None:
    """Refuse a data set with a train split that lacks a class."""
    in_train: dict[str, set[int]] = defaultdict(set)
    for file, label in zip(files, labels, strict=True):
        in_train[file.split or ""].add(label)
    lacking = [name for label, name in enumerate(task.class_names) if label not in in_train["train"]]
    if in_train["train"] and lacking:
        ignored = [name for name in passed_over if name.endswith("/")]
        beside = f", but {', '.join(ignored[:5])}" if ignored else ""
        raise DataError(
            f"{root} has no training images of {', '.join(map(printable, lacking))}{beside}",
            _LAYOUT,
            "Check the folder's layout",
        )


def _check_npz(data: DataSource) -> None:
    if data.patient_pattern:
        raise DataError(
            f"{data.path} has no file names to search for the patient pattern {data.patient_pattern!r}",
            "a data folder",
            "Omit --patient-pattern",
        )
    for name in ("labels", "test", "split"):
        if value := getattr(data, name):
            raise DataError(
                f"{option(name)} {printable(value)} was given for {data.path}, which holds its own labels and splits",
                "a data folder",
                f"Omit {option(name)}",
            )


def _in_splits(source: FolderSource, data: DataSource) -> Source:
    """The data set with its own splits, or with those that the user wants drawn."""
    tested = sum(sample.split == "test" for sample in source.samples)
    if data.split is None and source.has_splits:
        return source
    if data.split is None and tested:
        return DrawnSource(source, _TRAIN_AND_VAL)
    if data.split is None:
        raise DataError(
            f"{source.root} has classes ({', '.join(map(printable, source.task.class_names[:5]))}) and no splits",
            "folders train and test, a table with a split for each image, or shares to draw them by",
            f"Give {option('split')} 80/10/10, or {option('split')} 0/0/100 to take all for testing",
        )
    if tested and len(parse_shares(data.split)) == 3:
        raise DataError(
            f"{option('split')} {data.split} was given for {source.root}, which has {tested:,} test images",
            "shares of train and val alone, as 90/10",
            f"Omit {option('split')}, or give two shares",
        )
    return DrawnSource(source, data.split)


def doubt_pattern(source: Source) -> str:
    """Return a warning if the user's pattern hardly separates patients, one line without its full stop; else "".

    That is so if one patient gets more than half of all images, for example if the group matches a word or a folder.
    """
    if not source.patient_pattern:
        return ""
    ((patient, images),) = Counter(sample.patient for sample in source.samples).most_common(1)
    if 2 * images <= len(source.samples):
        return ""
    return (
        f"the patient pattern {source.patient_pattern!r} assigns {images:,} of {len(source.samples):,} images to one "
        f"patient, {patient!r}; its group should match the part that differs between patients"
    )


def doubt_labels(source: Source) -> str:
    """Return a warning if the folders of images name other classes than their rows, without its full stop; else ""."""
    if LABELS_OF not in source.title:
        return ""
    names = [classes.same(name) for name in source.task.class_names]
    others = [sample for sample in source.samples if _is_in_folder_of_another(sample, names)]
    if not others:
        return ""
    first = others[0]
    return (
        f"{len(others):,} of {len(source.samples):,} images lie in the folder of another class than the table says, "
        f"such as {first.name}: {source.task.class_names[first.label]}. The table is used"
    )


def _is_in_folder_of_another(sample: Sample, names: Sequence[str]) -> bool:
    folders = {classes.same(part) for part in sample.name.split("/")[:-1]} & set(names)
    return bool(folders) and names[sample.label] not in folders


def doubt_splits(source: Source) -> str:
    """Return a warning if patients of the test split are in another one too, without its full stop; else ""."""
    splits_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in source.samples:
        if sample.is_patient_known:
            splits_of[sample.patient, sample.kind].add(sample.split)
    shared = sum(len(splits) > 1 and "test" in splits for splits in splits_of.values())
    return describe_shared_patients(shared) if shared else ""


def describe_shared_patients(count: int) -> str:
    """What patients in more than one split mean, one line without its full stop."""
    return (
        f"Patients in more than one split ({count:,}): a model can recognize them in the test. Move each to one split, "
        "or draw the splits by patient with --split"
    )
