"""An sshd for tests of what is measured through OpenSSH."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


def write_script(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclass
class Host:
    """An sshd whose connections see another home."""

    port: int
    home: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def cut(self) -> None:
        """End every connection that is open."""
        for child in _children(self.process.pid):
            for each in (*_children(child), child):
                # What runs in a session of its own is no child of these.
                os.kill(each, signal.SIGKILL)


def _children(process: int) -> list[int]:
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


@contextlib.contextmanager
def sshd(folder: Path, address: str, *prefix: str) -> Iterator[Host]:
    """An sshd at an address, started by a prefix of its command; a test without one is skipped."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin")
    ssh, keygen = shutil.which("ssh"), shutil.which("ssh-keygen")
    if not server or not ssh or not keygen:
        pytest.skip("a benchmark through ssh takes an sshd, and there is none: apt-get install openssh-server")
    (folder / "home").mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd.conf").write_text(
        f"Port {port}\nListenAddress {address}\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"SetEnv HOME={folder}/home PATH={os.environ['PATH']}\n"
    )
    (folder / "known").write_text(f"[{address}]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "ssh.conf").write_text(
        f"Host board off\n  HostName {address}\n  Port {port}\n"
        f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
    )
    write_script(folder / "bin" / "ssh", f'#!/bin/sh\nexec {ssh} -F {folder}/ssh.conf "$@"\n')
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    command = [*prefix, server, "-D", "-e", "-f", str(folder / "sshd.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr
        # It says that it listens, for each address.
        while b"listening" not in (line := process.stderr.readline()):
            if not line:
                pytest.skip(f"sshd does not start here: exit code {process.wait()}")
        environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        yield Host(port, folder / "home", process, environment)
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()
