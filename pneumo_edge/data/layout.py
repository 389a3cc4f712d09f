"""Reads class folders on disk: the split and class of each image, and the files that are not used."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pneumo_edge.data.classes import NONE_OF, SEVERAL_OF, Findings, known, same
from pneumo_edge.errors import DataError, printable
from pneumo_edge.imaging import folders
from pneumo_edge.imaging.folders import Tree, Why
from pneumo_edge.task import PNEUMONIA

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
#: A file of this name in a data folder marks its images as procedural.
PHANTOM_MARKER = "PHANTOM.txt"

#: Names of folders of a split. Case and punctuation do not matter.
_SPLIT_OF: dict[str, SplitName] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NO_IMAGE_BESIDE = "not an image, and not in a class folder"
_CONTRADICTS = "the folder has the name of another class or a split, inside a class folder, so its images are not used"
_MASKS = "the folder has the masks of the folder images beside it, which are not used"
_NO_IMAGES = "the folder has no images"
#: If two split folders link to one folder, the first of these is its split: never train on test images.
_PRECEDENCE: tuple[SplitName | None, ...] = ("test", "val", "train", None)
#: Reasons that can apply to very many files; each gets one line.
NO_ROW, NO_IMAGE_OF_ROW, NO_LABEL = "no row in the table", "no image for this row", "no label in the table"
NO_SPLIT, SEVERAL = "not in a split", "several files have the name in this row"
LABELS_DIFFER = "its rows in the table have labels that exclude each other"
SPLITS_DIFFER = "its rows in the table have different splits"
PATIENTS_DIFFER = "its rows in the table have different patients"
_IN_A_LINE = {
    NO_ROW: "image has no row in the table|images have no row in the table",
    NO_IMAGE_OF_ROW: "row of the table has no image|rows of the table have no image",
    NO_LABEL: "image has no label, or an uncertain one|images have no label, or an uncertain one",
    NO_SPLIT: "image is not in a split|images are not in a split",
    SEVERAL: "row of the table matches several files|rows of the table match several files",
    LABELS_DIFFER: "image has labels that exclude each other|images have labels that exclude each other",
    SPLITS_DIFFER: "image has rows with different splits|images have rows with different splits",
    PATIENTS_DIFFER: "image has rows with different patients|images have rows with different patients",
}


@dataclass(frozen=True)
class Located:
    """An image file: ``inner`` is its path below the class folder, ``name`` its path below the data folder.

    Both use "/" as separator; bytes of a name that are not UTF-8 are escaped. ``split`` is None if the data set has no
    splits. ``findings`` come from the class folder, or from the row of a table. ``order`` is the position of the class
    among those of its split. ``kind`` and ``patient`` are "" if they are unknown.
    """

    path: Path
    name: str
    inner: str
    split: SplitName | None
    findings: Findings
    kind: str = ""
    order: int = 0
    patient: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of a data folder; ``passed_over`` has the reason by name, with "/" at the end of folders.

    ``merge_kinds`` is whether the classes are NORMAL and PNEUMONIA, with kinds of pneumonia in folders of their own.
    ``remarks`` are lines on how a table was read, where it could be read in another way.
    """

    files: tuple[Located, ...]
    passed_over: dict[str, str]
    merge_kinds: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _ClassFolder:
    path: Path
    split: SplitName | None
    #: As a person reads it.
    name: str

    @property
    def finding(self) -> tuple[str, ...]:
        meaning = known(self.name)
        if not meaning:
            return (self.name,)
        label, kind = meaning
        return tuple(dict.fromkeys(filter(None, (kind, PNEUMONIA.class_names[label], self.name))))

    @property
    def kind(self) -> str:
        return (known(self.name) or (0, ""))[1]

    @property
    def identity(self) -> object:
        """A key of the class, equal for folders of one class."""
        meaning = known(self.name)
        return meaning[0] if meaning else same(self.name)


def split_of(name: str) -> SplitName | None:
    """Return the split that a word means, in any case, or None."""
    return _SPLIT_OF.get(_plain(name))


def find_root(path: Path) -> Path | None:
    """Return the folder with the split folders: the path itself, or the one folder in it that has them.

    Raises:
        DataError: Several folders in it have split folders.
    """
    for root in (path, path / "chest_xray"):
        if "train" in _splits_in(root):
            return root
    if _splits_in(path):
        return path
    inside = [path / name for name in _folder_names(path)]
    deeper = [folder / name for folder in inside for name in _folder_names(folder)] if len(inside) == 1 else []
    for candidates in (inside, deeper):
        found = [folder for folder in candidates if _splits_in(folder)]
        if len(found) == 1:
            return found[0]
        if found and not all(_is_class_above_splits(folder) for folder in found):
            raise DataError(
                f"{path} has several folders with splits: {', '.join(printable(each.name) for each in found[:5])}",
                "one data set",
                "Give one of these folders",
            )
    return None


def has_splits(root: Path) -> bool:
    """Whether a folder has folders of splits."""
    return bool(_splits_in(root))


def read_listing(root: Path, around: Path | None = None, *, all_classes: bool = False) -> Listing:
    """Find the images of a data folder with split folders, in the order of splits, classes and names.

    Args:
        root: The folder with the split folders.
        around: The folder around it, if the user gave that one; other files in it are not used.
        all_classes: Whether all folders in the split folders are classes. If not, and there are folders that mean
            NORMAL and PNEUMONIA, only these are.
    """
    passed_over: dict[str, str] = {}
    found = list(_folders_of_splits(root, passed_over))
    known_alone = not all_classes and _are_of_pneumonia(found)
    if known_alone:
        others = [each for each in found if not known(each.name)]
        for each in others:
            what = f"neither of the classes {', '.join(PNEUMONIA.class_names)}"
            _pass_over(root, each.path.relative_to(root), True, what, passed_over)
        found = [each for each in found if known(each.name)]
    files = _read(root, found, passed_over)
    if around:
        passed_over |= _beside(root, around)
    return Listing(tuple(files), passed_over, known_alone)


def read_unsplit(path: Path) -> Listing | None:
    """Find the images of class folders without splits, or with the splits inside.

    Returns:
        The images, without a split if there are none; None if the path does not have two folders with images.
    """
    for root in _with_only_children(path):
        passed_over: dict[str, str] = {}
        found: list[_ClassFolder] = []
        names = _folder_names(root)
        if len(names) < 2:
            continue
        inverted = all(_is_class_above_splits(root / name) for name in names)
        for name, is_folder in _entries(root):
            if name == PHANTOM_MARKER:
                continue
            if not is_folder or folders.is_hidden(name):
                _pass_over(root, Path(name), is_folder, "", passed_over)
            elif inverted:
                splits = [(inner, split_of(inner)) for inner in _folder_names(root / name)]
                found += [_ClassFolder(root / name / inner, split, _shown(name)) for inner, split in splits if split]
            else:
                found.append(_ClassFolder(root / name, None, _shown(name)))
        files = _read(root, found, passed_over)
        if len({same(file.findings[0][-1]) for file in files}) >= 2:
            return Listing(tuple(files), passed_over | (_beside(root, path) if root != path else {}))
    return None


def read_images(root: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the sorted images in a folder, and the reason by name for other files."""
    (tree,) = folders.search([root])
    return tree.images, dict(_explain(tree, root))


def shown_name(path: Path, root: Path) -> str:
    """Return the path of a file below a folder, as it is printed and kept in manifests."""
    return _shown(path.relative_to(root).as_posix())


def describe_passed_over(passed_over: dict[str, str]) -> list[str]:
    """Describe the unused files of a data folder: one line for each folder and class, and one for each kind of file.

    Files that are obviously not images of the data set are not mentioned: hidden files, a README beside class folders.
    """
    shown = {name: why for name, why in passed_over.items() if why not in (Why.HIDDEN, _NO_IMAGE_BESIDE)}
    whole = [name for name, why in shown.items() if name.endswith("/") or why.startswith((NONE_OF, SEVERAL_OF))]
    lines = [f"{name}: {shown[name]}" for name in sorted(whole)]
    for reason, words in _IN_A_LINE.items():
        if names := [name for name, why in shown.items() if why == reason]:
            one, several = words.split("|")
            lines.append(f"{len(names):,} {one if len(names) == 1 else several}: {_first(names)}")
    files = [
        name
        for name, why in shown.items()
        if not name.endswith("/") and why not in _IN_A_LINE and not why.startswith((NONE_OF, SEVERAL_OF))
    ]
    if files:
        lines.append(f"{len(files):,} {'file is' if len(files) == 1 else 'files are'} not used: {_first(files)}")
    return lines


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _beside(root: Path, around: Path) -> dict[str, str]:
    """Return the reasons for files beside the folder that is read, in the folder that the user gave."""
    inner = root.relative_to(around).parts[0]
    return {
        f"../{_shown(name)}{'/' * is_folder}": f"is beside {_shown(inner)}, which is used instead"
        for name, is_folder in _entries(around)
        if name not in (inner, PHANTOM_MARKER)
    }


def _are_of_pneumonia(found: Sequence[_ClassFolder]) -> bool:
    """Whether the training folders, or all folders if there are none, have both classes of the task PNEUMONIA."""
    for chosen in ([each for each in found if each.split == "train"], found):
        if chosen:
            return {meaning[0] for each in chosen if (meaning := known(each.name))} == {0, 1}
    return False


def _folders_of_splits(root: Path, passed_over: dict[str, str]) -> Iterator[_ClassFolder]:
    found: dict[Path, tuple[SplitName, list[tuple[str, bool]]]] = {}
    for name, is_folder in _entries(root):
        split = split_of(name) if is_folder else None
        if split is None:
            if name != PHANTOM_MARKER:
                _pass_over(root, Path(name), is_folder, f"not one of the splits {', '.join(SPLITS)}", passed_over)
            continue
        try:
            found[root / name] = split, _entries(root / name)
        except OSError as error:
            passed_over[f"{_shown(name)}/"] = _closed(error.strerror or str(error))
    for folder, (split, entries) in _without_a_level(root, found, passed_over).items():
        for inside, is_folder in entries:
            if is_folder and not folders.is_hidden(inside):
                yield _ClassFolder(folder / inside, split, _shown(inside))
            else:
                _pass_over(root, (folder / inside).relative_to(root), is_folder, "", passed_over)


def _without_a_level(
    root: Path, found: dict[Path, tuple[SplitName, list[tuple[str, bool]]]], passed_over: dict[str, str]
) -> dict[Path, tuple[SplitName, list[tuple[str, bool]]]]:
    """Return the folders with the class folders: one level deeper if each split has one folder, of the same name."""
    only = {path: [name for name, is_folder in entries if is_folder] for path, (_, entries) in found.items()}
    if not only or len({tuple(map(same, names)) for names in only.values()}) > 1:
        return found
    if any(len(names) != 1 or known(names[0]) for names in only.values()):
        return found
    deeper = {path / only[path][0]: split for path, (split, _) in found.items()}
    if not all(len(_folder_names(path)) >= 2 for path in deeper):
        return found
    for path, (_, entries) in found.items():
        for name, is_folder in entries:
            if not is_folder:
                _pass_over(root, (path / name).relative_to(root), False, "", passed_over)
    return {path: (split, _entries(path)) for path, split in deeper.items()}


def _read(root: Path, classes: list[_ClassFolder], passed_over: dict[str, str]) -> list[Located]:
    """Return the images of class folders, in the order of splits, classes and names."""
    identities = {each.identity for each in classes}
    # NORMAL before PNEUMONIA, and both before classes of other names.
    in_order = sorted(identities, key=lambda each: (isinstance(each, str), str(each)))
    order = {identity: place for place, identity in enumerate(in_order)}
    # A stable sort: within a split, in the order of classes and names.
    classes.sort(key=lambda each: (_PRECEDENCE.index(each.split), order[each.identity]))
    trees = folders.search([each.path for each in classes])
    files: list[Located] = []
    taken: set[str] = set()
    by_split = sorted(zip(classes, trees, strict=True), key=lambda pair: _place(pair[0].split))
    for each, tree in by_split:
        if not tree.images and not known(each.name):
            passed_over[f"{_name(each.path, root)}/"] = _NO_IMAGES
        has_masks = (each.path / "images").is_dir()
        for path in tree.images:
            inner = path.relative_to(each.path)
            if another := _folder_of_another(each, inner, identities):
                passed_over[f"{_name(another, root)}/"] = _CONTRADICTS
                continue
            if has_masks and _plain(inner.parts[0]) in ("mask", "masks"):
                passed_over[f"{_name(each.path / inner.parts[0], root)}/"] = _MASKS
                continue
            name = _unlike(_name(path, root), taken)
            files.append(
                Located(
                    path, name, _name(path, each.path), each.split, (each.finding,), each.kind, order[each.identity]
                )
            )
        passed_over |= dict(_explain(tree, root))
    files.sort(key=lambda file: (_place(file.split), file.order, file.path))
    return files


def _place(split: SplitName | None) -> int:
    return SPLITS.index(split) if split else 0


def _folder_of_another(each: _ClassFolder, inner: Path, identities: set[object]) -> Path | None:
    """Return the folder inside a class folder that contains the image and has the name of another class or a split."""
    for folder in reversed(inner.parents[:-1]):
        meant = _ClassFolder(folder, None, _shown(folder.name)).identity
        if (meant != each.identity and meant in identities) or split_of(folder.name):
            return each.path / folder
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


def _with_only_children(path: Path) -> Iterator[Path]:
    """Yield the path and the folders below it, as long as each is the only one in its parent."""
    for _ in range(4):
        yield path
        names = _folder_names(path)
        if len(names) != 1:
            return
        path = path / names[0]


def _is_class_above_splits(folder: Path) -> bool:
    """Whether all folders in a folder are splits without folders, so the folder is a class."""
    names = _folder_names(folder)
    return bool(names) and all(split_of(name) and not _folder_names(folder / name) for name in names)


def _splits_in(folder: Path) -> set[SplitName]:
    return {split for name in _folder_names(folder) if (split := split_of(name))}


def _folder_names(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, without hidden ones; none if it cannot be read."""
    with contextlib.suppress(OSError):
        return [name for name, is_folder in _entries(folder) if is_folder and not folders.is_hidden(name)]
    return []


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
