"""Reads class folders on disk: the split and class of each image, and the files that are not used."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pneumo_edge.imaging import folders
from pneumo_edge.imaging.folders import Tree, Why
from pneumo_edge.task import PNEUMONIA

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
#: A file of this name in a data folder marks its images as procedural.
PHANTOM_MARKER = "PHANTOM.txt"

#: Names of folders of a split and of a class. Case and punctuation do not matter.
_SPLIT_OF: dict[str, SplitName] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
#: Label of the task PNEUMONIA, and kind of pneumonia.
_CLASS_OF = {
    "normal": (0, ""), "normals": (0, ""), "no pneumonia": (0, ""),
    "pneumonia": (1, ""), "pneumonias": (1, ""),
    "bacteria": (1, "bacteria"), "bacterial": (1, "bacteria"), "bacterial pneumonia": (1, "bacteria"),
    "pneumonia bacterial": (1, "bacteria"), "pneumonia bacteria": (1, "bacteria"),
    "virus": (1, "virus"), "viral": (1, "virus"), "viral pneumonia": (1, "virus"),
    "pneumonia viral": (1, "virus"), "pneumonia virus": (1, "virus"),
}  # fmt: skip
_NO_IMAGE_BESIDE = "not an image, and not in a class folder"
_CONTRADICTS = "the folder has the name of another class or a split, inside a class folder, so its images are not used"
#: If two split folders link to one folder, the first of these is its split: never train on test images.
_PRECEDENCE: tuple[SplitName, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Located:
    """An image file: ``inner`` is its path below the class folder, ``name`` its path below the data folder.

    Both use "/" as separator; bytes of a name that are not UTF-8 are escaped.
    """

    path: Path
    name: str
    inner: str
    split: SplitName
    label: int
    kind: str


@dataclass(frozen=True)
class Listing:
    """The files of a data folder; ``passed_over`` has the reason by name, with "/" at the end of folders."""

    files: tuple[Located, ...]
    passed_over: dict[str, str]


@dataclass(frozen=True)
class _ClassFolder:
    path: Path
    split: SplitName
    label: int
    kind: str


def find_root(path: Path) -> Path | None:
    """Return the folder with the split folders: the path itself, or ``chest_xray`` in it (Kaggle's archive)."""
    for root in (path, path / "chest_xray"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if any(_SPLIT_OF.get(_plain(name)) == "train" for name, is_folder in _entries(root) if is_folder):
                return root
    return None


def read_listing(root: Path, around: Path | None = None) -> Listing:
    """Find the images of a data folder, in the order of splits, classes and names.

    Args:
        root: The folder with the split folders.
        around: The folder around it, if the user gave that one; other files in it are not used.
    """
    passed_over: dict[str, str] = {}
    classes = list(_class_folders(root, passed_over))
    # A stable sort: within a split, in the order of labels and names.
    classes.sort(key=lambda each: (_PRECEDENCE.index(each.split), each.label))
    trees = folders.search([each.path for each in classes])
    files: list[Located] = []
    taken: set[str] = set()
    for each, tree in sorted(zip(classes, trees, strict=True), key=lambda pair: SPLITS.index(pair[0].split)):
        for path in tree.images:
            if inner := _folder_of_another(each, path):
                passed_over[f"{_name(inner, root)}/"] = _CONTRADICTS
                continue
            name = _unlike(_name(path, root), taken)
            files.append(Located(path, name, _name(path, each.path), each.split, each.label, each.kind))
        passed_over |= dict(_explain(tree, root))
    files.sort(key=lambda file: (SPLITS.index(file.split), file.label, file.path))
    if around:
        for name, is_folder in _entries(around):
            if name != root.name:
                passed_over[f"../{_shown(name)}{'/' * is_folder}"] = f"is beside {root.name}, which is used instead"
    return Listing(tuple(files), passed_over)


def describe_passed_over(passed_over: dict[str, str]) -> list[str]:
    """Describe the unused files of a data folder: one line for each folder, and one for all files.

    Files that are obviously not images of the data set are not mentioned: hidden files, a README beside class folders.
    """
    shown = {name: why for name, why in passed_over.items() if why not in (Why.HIDDEN, _NO_IMAGE_BESIDE)}
    lines = [f"{name}: {why}" for name, why in shown.items() if name.endswith("/")]
    files = [name for name in shown if not name.endswith("/")]
    if files:
        text = ", ".join(files[:5]) + (f" and {len(files) - 5:,} more" if len(files) > 5 else "")
        lines.append(f"{len(files):,} {'file is' if len(files) == 1 else 'files are'} not used: {text}")
    return lines


def _class_folders(root: Path, passed_over: dict[str, str]) -> Iterator[_ClassFolder]:
    for name, is_folder in _entries(root):
        split = _SPLIT_OF.get(_plain(name)) if is_folder else None
        if split is None:
            if name != PHANTOM_MARKER:
                _pass_over(root, Path(name), is_folder, f"not one of the splits {', '.join(SPLITS)}", passed_over)
            continue
        try:
            entries = _entries(root / name)
        except OSError as error:
            passed_over[f"{_shown(name)}/"] = _closed(error.strerror or str(error))
            continue
        for inside, holds_files in entries:
            row = _CLASS_OF.get(_plain(inside)) if holds_files else None
            if row is None:
                what = f"neither of the classes {', '.join(PNEUMONIA.class_names)}"
                _pass_over(root, Path(name, inside), holds_files, what, passed_over)
            else:
                yield _ClassFolder(root / name / inside, split, *row)


def _folder_of_another(each: _ClassFolder, image: Path) -> Path | None:
    """Return the folder inside a class folder that contains the image and has the name of another class or a split."""
    for inner in reversed(image.relative_to(each.path).parents[:-1]):
        row = _CLASS_OF.get(_plain(inner.name))
        if (row and row[0] != each.label) or _plain(inner.name) in _SPLIT_OF:
            return each.path / inner
    return None


def _pass_over(root: Path, inner: Path, is_folder: bool, what: str, passed_over: dict[str, str]) -> None:
    name = _shown(inner.as_posix())
    if folders.is_hidden(inner.name):
        passed_over[name + "/" * is_folder] = Why.HIDDEN.value
    elif not is_folder:
        why = folders.why_unread(root / inner)
        passed_over[name] = _NO_IMAGE_BESIDE if why == Why.NO_IMAGE else why or "is not in a class folder"
    else:
        (tree,) = folders.search([root / inner])
        images = f"{len(tree.images):,} {'image is' if len(tree.images) == 1 else 'images are'}"
        passed_over[f"{name}/"] = f"the folder is {what}; its {images} not used"


def _explain(tree: Tree, root: Path) -> Iterator[tuple[str, str]]:
    for path, why in tree.passed_over.items():
        yield _name(path, root) + "/" * folders.is_folder(path), why.value
    for path, reason in tree.closed.items():
        yield f"{_name(path, root)}/", _closed(reason)


def _closed(reason: str) -> str:
    return f"the folder cannot be read ({reason})"


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder, and whether each is a folder. Raises OSError if it cannot be read."""
    with os.scandir(folder) as listing:
        return sorted((entry.name, folders.is_folder(entry)) for entry in listing)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def _name(path: Path, root: Path) -> str:
    return _shown(path.relative_to(root).as_posix())


def _shown(name: str) -> str:
    # A manifest can only hold UTF-8.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unlike(name: str, taken: set[str]) -> str:
    """Return the name, with a number if another file has the same name after escaping."""
    unlike, number = name, 1
    while unlike in taken:
        number += 1
        unlike = f"{name}#{number}"
    taken.add(unlike)
    return unlike
