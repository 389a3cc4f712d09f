from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from converters.isolated import child_process
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
