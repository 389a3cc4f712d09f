"""Moves files that are finished out of the folder that is watched."""

from __future__ import annotations

import errno
import os
import shutil
from itertools import count
from pathlib import Path

from pneumo_edge._util import files
from pneumo_edge.service.watch.ledger import File

#: What a file system says that has no hard links, or of a file of another user.
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


def free_name(target: Path) -> Path:
    """A path where nothing is: the given one, or with a number before its ending."""
    others = (target.with_name(f"{target.stem}-{number}{target.suffix}") for number in count(2))
    return target if not os.path.lexists(target) else next(each for each in others if not os.path.lexists(each))


def move(file: File, target: Path) -> bool:
    """Move a file, unless it has changed; called again after a kill, it completes the move.

    Args:
        file: The file.
        target: Where to, in an existing folder or a new one. What is there is this file, or nothing is.

    Returns:
        Whether it is at the target; False where the path has another file or none, and nothing was moved.

    Raises:
        OSError: It cannot be moved; it is still at its path.
    """
    try:
        is_here = File.of(file.path, file.path.lstat()) == file
    except FileNotFoundError:
        is_here = False
    if not is_here:
        return os.path.lexists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A rename would have the events of other files wait: watchdog holds them back, in case the file comes back.
    try:
        os.link(file.path, target, follow_symlinks=False)
    except FileExistsError:
        pass  # by a move that was not completed
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with files.atomic(target) as temporary:
            shutil.copy2(file.path, temporary)
    file.path.unlink()
    return True
