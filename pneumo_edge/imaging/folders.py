"""Finds the images in a folder; all code that reads folders uses it.

A file is an image by its ending, or else by its content. Every file that is not read is in the result with the reason.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pneumo_edge.errors import printable
from pneumo_edge.imaging import sniffing
from pneumo_edge.imaging.images import SUFFIXES

#: Further endings of image files, including those of unsupported formats.
_OTHER_ENDINGS = frozenset(
    (".jfif", ".jpe", ".jif", ".jfi", ".ima", ".dib", ".apng",
     ".avif", ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxr", ".pbm", ".pgm", ".ppm",
     ".pnm", ".pam", ".psd", ".svg", ".exr", ".nii", ".nrrd")
)  # fmt: skip
_ENDINGS = SUFFIXES | _OTHER_ENDINGS
#: Names that operating systems and file servers add to folders, in addition to names that begin with a dot.
_SYSTEM = frozenset(
    ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found",
     "$recycle.bin", "system volume information")
)  # fmt: skip
#: Names that a summary has of one kind; of the others, it has the number.
_NAMED = 50


class Why(StrEnum):
    """The reason why something in a folder is not read as an image."""

    NO_IMAGE = "no image"
    HIDDEN = "hidden, or of the operating system"
    SEEN = "links to a folder that is already read"
    BACK = "links to a folder that contains it"
    SPECIAL = "a device, a pipe or a socket"


@dataclass
class Tree:
    """The content of a folder, each list sorted.

    Attributes:
        images: Files to read as images. Some may be damaged, which shows when they are read.
        passed_over: Files that are not images and folders that are not searched, with the reason.
        closed: Folders that cannot be read, with the system's message.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: dict[Path, Why] = field(default_factory=dict)
    closed: dict[Path, str] = field(default_factory=dict)


def search(roots: Sequence[Path]) -> list[Tree]:
    """Search folders through for images.

    Links to folders are followed after all real folders have been read, and no folder is read twice, whichever way it
    is reached: so a loop ends, and a file that several roots lead to belongs to the one that really holds it, or else
    to the first. A link back to a folder that it lies in is not followed.

    Args:
        roots: The folders.

    Returns:
        For each of them, what it holds.
    """
    trees = [Tree() for _ in roots]
    real: deque[tuple[Tree, Path]] = deque()
    linked: deque[tuple[Tree, Path]] = deque()
    for tree, root in zip(trees, roots, strict=True):
        (linked if is_link(root) else real).append((tree, root))
    seen: set[tuple[int, int]] = set()
    while real or linked:
        tree, folder = real.popleft() if real else linked.popleft()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                tree.passed_over[folder] = Why.SEEN
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            tree.closed[folder] = error.strerror or str(error)
            continue
        for entry in entries:
            path = folder / entry.name
            if is_hidden(entry.name):
                tree.passed_over[path] = Why.HIDDEN
            elif not is_folder(entry):
                why = why_unread(path)
                if why:
                    tree.passed_over[path] = why
                else:
                    tree.images.append(path)
            elif not entry.is_symlink():
                real.append((tree, path))
            elif _leads_back(path):
                tree.passed_over[path] = Why.BACK
            else:
                linked.append((tree, path))
    for tree in trees:
        tree.images.sort()
    return trees


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder is one that people do not give: of a dot file or the operating system's."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def is_link(folder: Path) -> bool:
    """Whether a folder is a symbolic link, or lies in a folder that is one, as seen from its grandparent."""
    return folder.is_symlink() or folder.parent.is_symlink()


def why_unread(path: Path) -> Why | None:
    """Return why a file is not read as an image; None if it is, by its ending or else by its first bytes.

    A file that cannot be opened counts as an image, so that reading it reports the error.
    """
    if _is_special(path):
        return Why.SPECIAL
    if path.suffix.lower() in _ENDINGS:
        return None
    try:
        with path.open("rb") as stream:
            return None if sniffing.sniff(stream.read(sniffing.HEAD_BYTES)) else Why.NO_IMAGE
    except (OSError, ValueError):
        return None


def summarize(passed_over: Iterable[tuple[Path, Why]], root: Path) -> list[str]:
    """Say what is not read and why, a line for each reason.

    Args:
        passed_over: As in a :class:`Tree`.
        root: Where names begin.
    """
    by_reason: dict[Why, list[Path]] = {}
    for path, why in passed_over:
        by_reason.setdefault(why, []).append(path)
    return [
        f"{_count(len(paths), why)}: {_names([path.relative_to(root) for path in paths])}"
        for why, paths in sorted(by_reason.items())
    ]


def _count(number: int, why: Why) -> str:
    one = number == 1
    return {
        Why.NO_IMAGE: "1 file is not an image" if one else f"{number:,} files are not images",
        Why.HIDDEN: f"{number:,} {'is' if one else 'are'} hidden or of the operating system",
        Why.SEEN: "1 link leads to a folder that is already read"
        if one
        else f"{number:,} links lead to folders that are already read",
        Why.BACK: "1 link leads to a folder that contains it"
        if one
        else f"{number:,} links lead to folders that contain them",
        Why.SPECIAL: f"{number:,} {'is not a regular file' if one else 'are not regular files'}",
    }[why]


def _names(paths: list[Path]) -> str:
    text = ", ".join(printable(path) for path in paths[:_NAMED])
    if rest := paths[_NAMED:]:
        endings = Counter(path.suffix.lower() or "no ending" for path in rest)
        text += f" and {len(rest):,} more ({', '.join(f'{end}: {n:,}' for end, n in endings.most_common(5))})"
    return text


def is_folder(entry: os.DirEntry[str] | Path) -> bool:
    """Whether something is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, too long a path, or one in a private folder
        return False


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a link to nothing, for one
        return False


def _leads_back(link: Path) -> bool:
    return Path(os.path.realpath(link.parent)).is_relative_to(os.path.realpath(link))
