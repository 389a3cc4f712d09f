"""Checks in limited time whether an address answers; behind a firewall some never do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

#: Seconds for one attempt as a whole: the look-up of the name, a proxy, every address that the name has.
SECONDS = 8.0


class UnreachableError(OSError):
    """Nothing answered at an address; the message says which host, and why."""


def check(url: str, seconds: float = SECONDS) -> None:
    """Check in one attempt that an address answers; any answer will do.

    A proxy from the environment is used, as for a download.

    Args:
        url: An http or https address.
        seconds: Time limit. Timeouts of sockets do not limit the lookup of a name, and apply to each address of a name
            separately.

    Raises:
        UnreachableError: Nothing answered, or something else than HTTP.
    """
    reasons = [f"no answer in {seconds:g} s"]

    def ask() -> None:
        try:
            # An opener of its own reads the proxies of now.
            opener = urllib.request.build_opener()
            opener.open(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError as error:
            error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reasons[0] = str(getattr(error, "reason", error))
            return
        reasons.clear()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if reasons:
        raise UnreachableError(f"no connection to {urlsplit(url).netloc}: {reasons[0]}")


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let no socket that a library opens in this block wait longer than so for the next bytes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
