"""Where the service listens: an address, or a Unix socket."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from pneumo_edge.errors import ServiceError, printable

#: Who may connect to a Unix socket: the service's own user and group.
_MODE = 0o660
#: Connections that the system completes ahead of their being accepted, within its own bound. A client beyond them
#: tries again after a second.
_BACKLOG = 4096


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open a socket that listens; with port 0, on a port that is free.

    Raises:
        ServiceError: The address is not one of this machine, or the port is taken or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise ServiceError(
            f"cannot listen on port {port} of {host} ({_reason(error)})",
            "an address of this machine and a free port",
            "Give another with --host or --port; --port 0 finds a free one",
        ) from error
    with listening:
        yield listening


@contextlib.contextmanager
def listen_on_path(path: Path) -> Iterator[socket.socket]:
    """Open a Unix socket that listens; its file is removed in the end.

    A socket that nobody listens on, left behind by a service that was killed, is replaced.

    Raises:
        ServiceError: There is something at the path already, or no socket can be made there.
    """
    _clear(path)
    listening = socket.socket(socket.AF_UNIX)
    with listening:
        try:
            # Nobody connects between bind and chmod.
            before = os.umask(0o777 & ~_MODE)
            try:
                listening.bind(os.fspath(path))
            finally:
                os.umask(before)
            listening.listen(_BACKLOG)
        except (OSError, ValueError) as error:
            raise _unusable(path, _reason(error)) from error
        made = path.stat()
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):
                # Another service may have put its own there since.
                if os.path.samestat(path.stat(), made):
                    path.unlink()


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _unusable(path, "there is something else at this path")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _unusable(path, _reason(error)) from error
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise _unusable(path, _reason(error)) from error
    raise _unusable(path, "another process listens on it")


def _unusable(path: Path, reason: str) -> ServiceError:
    return ServiceError(
        f"cannot listen on the Unix socket {path} ({reason})",
        "a path of at most 107 bytes in a folder that exists and can be written to",
        "Give another with --unix-socket",
    )


def _reason(error: Exception) -> str:
    # Python puts the address in brackets behind what the system says.
    return (getattr(error, "strerror", None) or str(error)).partition(" (")[0]


def url(listening: socket.socket) -> str:
    """Where a browser finds what listens on a socket; for a Unix socket, ``unix:`` and its path."""
    name = listening.getsockname()
    if listening.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{printable(os.fsdecode(name))}"
    host, port = name[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_local(listening: socket.socket) -> bool:
    """Tell whether only this machine can reach a socket."""
    if listening.family == getattr(socket, "AF_UNIX", None):
        return True
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback
