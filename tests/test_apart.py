from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pneumo_edge import apart
from pneumo_edge.errors import GateError, ModelFileError


@dataclass(frozen=True)
class Sum:
    """What the module of these tests answers with."""

    value: int


Run = Callable[..., Sum]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a function body in a process of its own."""

    def run_body(body: str, seconds: float = 60) -> Sum:
        program = (
            "import os, sys\nfrom dataclasses import dataclass\nfrom pneumo_edge import apart, errors\n"
            "@dataclass(frozen=True)\nclass Sum:\n    value: int\n"
            f"def work():\n{textwrap.indent(body, '    ')}\napart.answer(work)\n"
        )
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}")
        (tmp_path / "the_work.py").write_text(program)
        return apart.run("the_work", ["7"], Sum, "the engine on x.tflite", seconds)

    return run_body


def test_a_record_comes_back_whatever_is_printed_beside_it(run: Run) -> None:
    body = "print('chatter')\nos.write(1, b'more')\nreturn Sum(int(sys.argv[1]))"
    assert run(body) == Sum(7)


def test_an_error_comes_back_as_it_was(run: Run) -> None:
    with pytest.raises(GateError) as caught:
        run("raise errors.GateError('a', 'b', 'Do c')")
    assert caught.value.args == ("a", "b", "Do c")


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("os.abort()", "signal 6"),
        ("os._exit(9)", "exit code 9"),
        ("os._exit(0)", "exit code 0"),
        ("os._exit(3)", "exit code 3"),
        ("1 / 0", "exit code 1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_crash_is_an_error_that_says_how(run: Run, body: str, how: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        run(body)
    assert caught.value.given == f"the engine on x.tflite crashed ({how})"


def test_what_takes_too_long_is_ended(run: Run) -> None:
    with pytest.raises(ModelFileError, match=r"crashed \(no answer within 2 s\)"):
        run("while True: pass", seconds=2)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux counts it")
def test_what_takes_too_much_memory_is_refused(run: Run) -> None:
    with pytest.raises(ModelFileError, match="MemoryError"):
        run("bytearray(apart.MAX_MEMORY)")
