from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pneumo_edge._util import subprocesses
from pneumo_edge.errors import GateError, ModelFileError


@dataclass(frozen=True)
class Number:
    """What the functions of these tests get, and answer with."""

    value: int


Run = Callable[..., Number]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Carries out a function of a given body on an untrusted file."""

    def run_body(body: str, seconds: float = 60) -> Number:
        program = (
            "import os\nfrom dataclasses import dataclass\nfrom pneumo_edge import errors\n"
            "from pneumo_edge._util import subprocesses\n"
            "@dataclass(frozen=True)\nclass Number:\n    value: int\n"
            f"def work(number: Number) -> Number:\n{textwrap.indent(body, '    ')}\n"
        )
        (tmp_path / "the_work.py").write_text(program)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
        sys.modules.pop("the_work", None)
        work = importlib.import_module("the_work").work
        answer = subprocesses.call_untrusted(work, Number(7), "the engine on x.tflite", seconds)
        return Number(answer.value)

    return run_body


def test_a_record_comes_back_whatever_is_printed_beside_it(run: Run) -> None:
    body = "print('chatter')\nos.write(1, b'more')\nreturn Number(number.value + 1)"
    assert run(body) == Number(8)


def test_an_error_comes_back_as_it_was(run: Run) -> None:
    with pytest.raises(GateError) as caught:
        run("raise errors.GateError('a', 'b', 'Do c')")
    assert caught.value.args == ("a", "b", "Do c")


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os.kill(os.getpid(), 11)", "signal SIGSEGV"),
        ("os.abort()", "signal SIGABRT"),
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
        run("bytearray(subprocesses.MAX_MEMORY)")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it takes /proc to see whether a process lives")
def test_a_process_apart_ends_with_its_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "the_work.py").write_text(
        "import os, pathlib, sys, time\n"
        "from dataclasses import dataclass\n"
        "from pneumo_edge import errors\nfrom pneumo_edge._util import subprocesses\n"
        "@dataclass(frozen=True)\nclass Place:\n    path: str\n"
        "def work(place: Place) -> Place:\n"
        "    pathlib.Path(place.path).write_text(str(os.getpid()))\n"
        "    time.sleep(3600)\n"
        "    return place\n"
    )
    program = (
        "import sys, the_work\nfrom pneumo_edge._util import subprocesses\n"
        "subprocesses.call(the_work.work, the_work.Place(sys.argv[1]), str)"
    )
    told = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    with subprocess.Popen([sys.executable, "-c", program, str(told)], env=environment) as parent:
        while not (told.exists() and told.read_text()):
            assert parent.poll() is None
            time.sleep(0.02)
        parent.kill()
    child = Path("/proc") / told.read_text() / "stat"
    deadline = time.monotonic() + 60
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.05)
