from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pneumo_edge._util import children


@pytest.mark.parametrize(
    ("code", "how"), [(0, "exit code 0"), (3, "exit code 3"), (-11, "signal SIGSEGV"), (-200, "signal 200")]
)
def test_how_a_process_ended_is_told_whether_its_signal_has_a_name_or_not(code: int, how: str) -> None:
    assert children.how_it_ended(code) == how


def test_a_users_file_takes_the_place_of_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "program.py").write_text("import json\nprint(json.dumps([1]))\n")
    monkeypatch.chdir(tmp_path)
    for program in (["program.py"], ["-c", "import json; print(json.dumps([1]))"]):
        with children.start(*program) as child:
            assert child.stdout.read() == b"[1]\n"
            assert child.ending() == "exit code 0"


def test_the_last_words_are_the_last_line_that_says_something() -> None:
    with children.start("-c", "import sys; sys.exit('first\\nlast\\n\\n  ')") as child:
        assert child.ending() == "exit code 1"
        assert child.last_words() == "last"
    with children.start("-c", "pass") as child:
        child.ending()
        assert child.last_words() == ""


def test_standard_error_is_added_to_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with children.start("-c", "import os; os.write(2, b'after')", errors=log) as child:
        child.ending()
    assert log.read_text() == "before\nafter"


def test_what_else_is_printed_is_not_among_the_answers() -> None:
    program = (
        "import os\nfrom pneumo_edge._util import children\n"
        "with children.answering() as stream:\n"
        "    print('chatter', flush=True)\n    os.write(1, b'more')\n    stream.write(b'the answer')\n"
    )
    with children.start("-c", program) as child:
        assert child.stdout.read() == b"the answer"
        child.ending()
        assert child.last_words() == "more"


def test_a_child_ends_with_its_block() -> None:
    with children.start("-c", "import time; time.sleep(3600)") as child:
        assert child.process.poll() is None
    assert child.process.poll() is not None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it takes /proc to see what is open")
def test_an_interpreter_that_is_not_there_leaves_nothing_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        children.start("-c", "pass", python=str(Path(sys.executable).with_name("no-python")))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
