"""Class folders on a disk: which files are images of which split and class, and what is none of them."""

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
#: A file of this name in a data folder marks its images as procedural, and says so to people.
PHANTOM_MARKER = "PHANTOM.txt"

#: What folders of a split and of a class are called, whatever their case and punctuation.
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
_NO_IMAGE_BESIDE = "no image, and in no class folder"
_CONTRADICTS = "the folder is named as another class or a split, inside a class folder, so its images are not used"
#: Where two split folders lead to one folder, what it is for: never train on what was meant to judge.
_PRECEDENCE: tuple[SplitName, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Located:
    """An image file: ``inner`` is its path below the class folder, and ``name`` that below the data folder.

    Both have "/" between their parts; bytes of a name that are no UTF-8 are escaped.
    """

    path: Path
    name: str
    inner: str
    split: SplitName
    label: int
    kind: str


@dataclass(frozen=True)
class Listing:
    """What lies in a data folder; ``passed_over`` has the reason by name, folders with a "/" at the end."""

    files: tuple[Located, ...]
    passed_over: dict[str, str]


@dataclass(frozen=True)
class _ClassFolder:
    path: Path
    split: SplitName
    label: int
    kind: str


def find_root(path: Path) -> Path | None:
    """The folder with the split folders: the path itself, or ``chest_xray`` in it, as Kaggle's archive unpacks."""
    for root in (path, path / "chest_xray"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if any(_SPLIT_OF.get(_plain(name)) == "train" for name, is_folder in _entries(root) if is_folder):
                return root
    return None


def read_listing(root: Path, around: Path | None = None) -> Listing:
    """Find the images of a data folder, in the order of splits, classes and names.

    Args:
        root: The folder with the split folders.
        around: The folder that holds it, if that is what the user gave: what lies beside is passed over.
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
                passed_over[f"../{_shown(name)}{'/' * is_folder}"] = f"lies beside {root.name}, which is read"
    return Listing(tuple(files), passed_over)


def describe_passed_over(passed_over: dict[str, str]) -> list[str]:
    """Say in a few lines what of a data folder is not used: each folder, and files together.

    What nobody would take for an image of the data set is left out: hidden files, a README beside the class folders.
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
                _pass_over(root, Path(name), is_folder, f"none of the splits {', '.join(SPLITS)}", passed_over)
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
    """The folder inside a class folder that is named as another class, or as a split, and holds an image."""
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
        passed_over[name] = _NO_IMAGE_BESIDE if why == Why.NO_IMAGE else why or "lies in no class folder"
    else:
        (tree,) = folders.search([root / inner])
        images = f"{len(tree.images):,} {'image is' if len(tree.images) == 1 else 'images are'}"
        passed_over[f"{name}/"] = f"the folder is {what}, so its {images} not used"


def _explain(tree: Tree, root: Path) -> Iterator[tuple[str, str]]:
    for path, why in tree.passed_over.items():
        yield _name(path, root) + "/" * folders.is_folder(path), why.value
    for path, reason in tree.closed.items():
        yield f"{_name(path, root)}/", _closed(reason)


def _closed(reason: str) -> str:
    return f"the folder cannot be read ({reason})"


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a folder; raises OSError where it cannot be read."""
    with os.scandir(folder) as listing:
        return sorted((entry.name, folders.is_folder(entry)) for entry in listing)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def _name(path: Path, root: Path) -> str:
    return _shown(path.relative_to(root).as_posix())


def _shown(name: str) -> str:
    # A name that is not UTF-8 fits into no manifest.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unlike(name: str, taken: set[str]) -> str:
    """The name, unless another file's has it already, which escaping can bring about."""
    unlike, number = name, 1
    while unlike in taken:
        number += 1
        unlike = f"{name}#{number}"
    taken.add(unlike)
    return unlike
