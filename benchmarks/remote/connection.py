"""Requests to a device through OpenSSH's own client, so that keys, configuration and jump hosts are the user's.

A request is one run of ``ssh``: the text of :mod:`pneumo_edge.benchmarks.remote.agent` and the request go in, answers
come back. A connection that is lost is made again for as long as the user waits.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from pneumo_edge.benchmarks.remote.fleet import Device
from pneumo_edge.errors import DeviceError, printable

Answer = TypeVar("Answer")
Payload = Callable[[IO[bytes]], None]
#: Exit codes: of ``ssh`` where the connection fails, and of a shell where a program is not found.
_LOST, _NOT_FOUND = 255, 127
#: Exit code of :data:`_FIND` where there is no Python.
_NO_PYTHON = 91
_OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
    "ClearAllForwardings=yes", "RemoteCommand=none", "EscapeChar=none", "RequestTTY=no",
)  # fmt: skip
#: The same release of Python as here has the same libraries; then the system's own.
_PYTHONS = tuple(dict.fromkeys(f"python3{name}" for name in (f".{sys.version_info.minor}", "", ".13", ".12", ".11")))
_BOOT = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
_FIND = (
    'for each in $0; do if "$each" -c "import sys; sys.exit(sys.version_info < (3, 11))" </dev/null >/dev/null 2>&1; '
    'then exec "$each" -c "$1"; fi; done; '
    f'for each in python3 python; do "$each" -V </dev/null 2>&1 && break; done >&2; exit {_NO_PYTHON}'
)
#: Seconds before a lost connection is made again: the first and the longest.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
#: What ssh says, what that means, and what to do. The first that is found counts.
_SAYS = (
    (r"Could not resolve hostname", "is an unknown host", "Check its name, the network, and the configuration of ssh"),
    (r"Host key verification failed|No \w+ host key is known|HOST IDENTIFICATION HAS CHANGED",
     "has a host key that is not known here", "Connect once with ssh and compare the key with the device's"),
    (r"Permission denied|Too many authentication failures|No supported authentication methods",
     "does not let this user in", "Give another user, or add your key with ssh-copy-id; passwords are not asked for"),
    (r"Connection refused", "refuses the connection", "Check the port, and that sshd runs there"),
    (r"timed out|No route to host|Network is unreachable|not responding", "does not answer",
     "Check the address, and that the device is on"),
    (r"Bad configuration option|Bad owner or permissions|unknown option", "is not reached, for ssh refuses its options",
     "Correct the configuration of ssh"),
)  # fmt: skip
#: Those that waiting does not mend.
_FINAL = re.compile(f"{_SAYS[1][0]}|{_SAYS[2][0]}|{_SAYS[5][0]}")


class LinkLostError(Exception):
    """The connection ended before the answer; the text is what ssh said."""


class StoppedError(Exception):
    """The user interrupted the command."""


class Connection:
    """Makes requests to one device.

    Args:
        device: The device.
        patience_s: For how many seconds a lost connection is made again.
        tell: Called with lines for the user.
        stop: Ends requests and waits as soon as it is set.
    """

    def __init__(self, device: Device, patience_s: float, tell: Callable[[str], None], stop: threading.Event) -> None:
        self._device, self._patience_s, self._tell, self._stop = device, patience_s, tell, stop
        self._python = device.python
        self._was_connected, self._lost_since = False, 0.0

    def probe(self) -> Any:
        """What the device is; its Python serves all later requests.

        Raises:
            DeviceError: As :meth:`request`, or it has no Python.
        """
        found = self.request("probe")
        self._python = str(found["python"])
        return found

    def request(
        self,
        do: str,
        payload: Payload | None = None,
        seen: Callable[[Any], None] = lambda event: None,
        **argument: Any,
    ) -> Any:
        """Make a request of :data:`pneumo_edge.benchmarks.remote.agent.REQUESTS`, once.

        Args:
            do: Its name.
            payload: Writes what follows the request.
            seen: Called with each event before the answer.
            argument: Its argument; the device's folder is added.

        Raises:
            LinkLostError: The connection was lost, after there had been one.
            DeviceError: There is no connection, or the device refuses or fails.
        """
        # A new one for each request, which nothing else that the device prints can have: of a banner, or of its shell.
        mark = f"pneumo-edge-device {uuid.uuid4().hex} "
        stated = {"mark": mark, "do": do, "with": {"folder": self._device.folder, **argument}}
        # It is not imported: it has libraries that Windows lacks.
        program = Path(__file__).with_name("agent.py").read_bytes()
        with tempfile.TemporaryFile() as errors:
            process = self._open(errors)
            try:
                answer = None
                assert process.stdin
                assert process.stdout
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(f"{len(program)}\n".encode() + program + json.dumps(stated).encode() + b"\n")
                    if payload:
                        payload(process.stdin)
                    process.stdin.flush()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                while line := process.stdout.readline():
                    # What was printed before may not have ended its line.
                    _, found, stated_there = line.partition(mark.encode())
                    if not found or not line.endswith(b"\n"):
                        continue
                    self._heard()
                    kind, value = json.loads(stated_there)
                    if kind == "event":
                        seen(value)
                    else:
                        answer = kind, value
                code = process.wait()
            finally:
                _end(process)
            errors.seek(0)
            said = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
        if self._stop.is_set():
            raise StoppedError
        if answer is None:
            raise self._failure(code, said)
        kind, value = answer
        if kind == "error":
            given, expected, remedy = value
            raise DeviceError(f"{self._device.name}: {given}", expected, remedy)
        return value

    def keep_trying(self, action: Callable[[], Answer]) -> Answer:
        """Carry out requests; where the connection is lost, all of them again, after longer and longer waits.

        Raises:
            DeviceError: It was lost for longer than the user waits.
        """
        wait = _FIRST_WAIT
        while True:
            try:
                return action()
            except LinkLostError as error:
                now = time.monotonic()
                if not self._lost_since:
                    self._lost_since, wait = now, _FIRST_WAIT
                    self._tell(f"connection lost ({error}); what was started there continues, reconnecting")
                if now - self._lost_since >= self._patience_s:
                    raise DeviceError(
                        f"the connection to {self._device.name} was lost for {self._patience_s:.0f} s ({error})",
                        "a connection",
                        "Run the same command again when it is back; what runs there continues",
                    ) from error
                self.wait(min(wait, self._patience_s))
                wait = min(2 * wait, _LONGEST_WAIT)

    def wait(self, seconds: float) -> None:
        """Wait.

        Raises:
            StoppedError: The user interrupted the command.
        """
        if self._stop.wait(seconds):
            raise StoppedError

    def _heard(self) -> None:
        self._was_connected = True
        if self._lost_since:
            self._tell(f"connected again after {time.monotonic() - self._lost_since:.0f} s")
        self._lost_since = 0.0

    def _open(self, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise DeviceError(
                "there is no ssh here", "OpenSSH's client", "Install it (Debian: apt install openssh-client)"
            )
        port = ["-p", str(self._device.port)] if self._device.port else []
        options = [word for option in _OPTIONS for word in ("-o", option)]
        there = [self._python, "-c", _BOOT] if self._python else ["sh", "-c", _FIND, " ".join(_PYTHONS), _BOOT]
        process = subprocess.Popen(
            [ssh, *options, *port, "--", self._device.destination, shlex.join(there)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for this process, which ends the connection.
            start_new_session=True,
        )
        threading.Thread(target=self._end_when_stopped, args=(process,), daemon=True).start()
        return process

    def _end_when_stopped(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            if self._stop.wait(0.2):
                process.kill()
                return

    def _failure(self, code: int, said: list[str]) -> Exception:
        name = self._device.name
        last = said[-1] if said else f"exit code {code}"
        told = " ".join(said)
        if code == _LOST or code < 0:
            if self._was_connected and not _FINAL.search(told):
                return LinkLostError(printable(last))
            for pattern, what, remedy in _SAYS:
                if re.search(pattern, told):
                    return DeviceError(f"{name} {what} ({last})", "a host that ssh reaches without a password", remedy)
            return DeviceError(f"{name} is not reached ({last})", "a host that ssh reaches", "Try it with ssh")
        if code == _NO_PYTHON or (code == _NOT_FOUND and self._python):
            found = f"{self._python} is not there" if self._python else last if said else "none found"
            return DeviceError(
                f"{name} has no usable Python ({found})",
                "Python 3.11 or newer on the device",
                "Install one there, or name it in devices.toml: python = PATH",
            )
        if self._was_connected and code == 0:
            return LinkLostError("the answer is incomplete")
        return DeviceError(
            f"{name} lets this user in, but its command ended with exit code {code} ({last})",
            "a POSIX system, and a user whose login shell runs commands",
            "Try it with ssh",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
