from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pneumo_edge.converters.isolated import child_process
from pneumo_edge.errors import ConversionError, GateError


def _double(number: int) -> int:
    os.write(1, b"native chatter\n")
    return 2 * number


def _raise() -> None:
    raise ValueError("cannot convert this")


def _miss() -> None:
    raise GateError("given", "expected", "Remedy")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_back_and_chatter_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "converter.log"
    with child_process(log) as child:
        assert child.call(_double, 21) == 42
    assert "native chatter" in log.read_text()
    assert "native chatter" not in "".join(capfd.readouterr())


def test_an_exception_names_its_cause_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "converter.log"
    with child_process(log) as child, pytest.raises(ConversionError) as raised:
        child.call(_raise)
    assert "ValueError: cannot convert this" in str(raised.value)
    assert str(log) in str(raised.value)


def test_our_own_errors_come_through_as_they_are(tmp_path: Path) -> None:
    with (
        child_process(tmp_path / "log") as child,
        pytest.raises(GateError, match=r"^given; expected expected\. Remedy\.$"),
    ):
        child.call(_miss)


def test_a_killed_converter_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    with child_process(tmp_path / "log") as child, pytest.raises(ConversionError, match="process died"):
        child.call(_die)


def _fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _make_temporary() -> str:
    return tempfile.mkdtemp()


def test_a_full_disk_is_told_as_such_with_the_place(tmp_path: Path) -> None:
    with child_process(tmp_path / "log") as child, pytest.raises(OSError, match="No space left") as raised:
        child.call(_fill)
    assert str(raised.value.filename).startswith(str(tmp_path))


def test_what_nobody_waits_for_is_dropped_and_leaves_nothing(tmp_path: Path) -> None:
    with child_process(tmp_path / "log") as child:
        assert Path(child.call(_make_temporary)).is_dir()
        child.start(time.sleep, 3600)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_converter_ends_with_its_killed_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from pneumo_edge.converters.isolated import child_process\n"
        "if __name__ == '__main__':\n"
        "    with child_process(Path(sys.argv[1])) as child:\n"
        "        print(child.call(os.getpid), flush=True)\n"
        "        child.call(time.sleep, 600)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    command = [sys.executable, str(script), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the converter lives on"
        time.sleep(0.05)
