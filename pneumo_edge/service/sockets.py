"""Opens the socket that the service listens on: an address, or a Unix socket."""

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
#: Connections that the system queues before they are accepted, up to its own limit. Further clients try again after a
#: second.
_BACKLOG = 4096


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket; port 0 chooses a free port.

    Raises:
        ServiceError: The address is not one of this machine, or the port is in use or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise ServiceError(
            f"cannot listen on port {port} of {host} ({_reason(error)})",
            "an address of this machine and a free port",
            "Give another --host or --port; --port 0 chooses a free port",
        ) from error
    with listening:
        yield listening


@contextlib.contextmanager
def listen_on_path(path: Path) -> Iterator[socket.socket]:
    """Open a listening Unix socket; its file is removed at the end.

    A dead socket of a killed service is replaced.

    Raises:
        ServiceError: The path already exists, or a socket cannot be created there.
    """
    _clear(path)
    listening = socket.socket(socket.AF_UNIX)
    with listening:
        try:
            # With umask instead of chmod, nobody can connect in between.
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
                # Another service may have created its own socket there.
                if os.path.samestat(path.stat(), made):
                    path.unlink()


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _unusable(path, "this path exists and is not a socket")
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
        "a path of at most 107 bytes in an existing folder that can be written to",
        "Give another --unix-socket",
    )


def _reason(error: Exception) -> str:
    # Python adds the address in brackets to the system's message.
    return (getattr(error, "strerror", None) or str(error)).partition(" (")[0]


def url(listening: socket.socket) -> str:
    """Return the URL of a listening socket; for a Unix socket, ``unix:`` and its path."""
    name = listening.getsockname()
    if listening.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{printable(os.fsdecode(name))}"
    host, port = name[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_local(listening: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    if listening.family == getattr(socket, "AF_UNIX", None):
        return True
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback
