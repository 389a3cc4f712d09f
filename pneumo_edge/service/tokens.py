"""Reads the file with the service's token."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from pneumo_edge.errors import ServiceError

#: A token has characters of RFC 6750, and enough of them that it cannot be guessed.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,1024}=*", re.ASCII)
_MAKE = "Make one: (umask 077; openssl rand -hex 32 > FILE)"


def read(path: Path) -> str:
    """Read the token from a file with one line.

    Raises:
        ServiceError: The file cannot be read, or contains no token.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(2048)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServiceError(f"the token file {path} cannot be read ({reason})", "a file with a token", _MAKE) from error
    text = data.decode("ascii", "replace").strip()
    if not text:
        raise ServiceError(f"the token file {path} is empty", "one line of at least 16 characters", _MAKE)
    if not _TOKEN.fullmatch(text):
        # The message does not quote the content, which is a secret.
        raise ServiceError(
            f"the token file {path} does not contain one token",
            "one line of 16 to 1024 letters, digits and -._~+/, with = only at the end", _MAKE,
        )  # fmt: skip
    return text


def is_exposed(path: Path) -> bool:
    """Whether every user of this machine can read a file."""
    return bool(path.stat().st_mode & stat.S_IROTH)
