from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pneumo_edge._util import progress


def test_everything_comes_through_and_a_job_of_a_moment_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(range(5), "Decoding")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_a_finished_job_that_took_a_while_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((100.0, 107.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(progress.track(range(5), "Decoding")) == [0, 1, 2, 3, 4]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Decoding: done in 7 s\n"


def test_a_job_that_fails_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), progress.bar("Training", 3) as advance:
        advance(1, "loss 0.5")
        raise ValueError("x")
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
def test_a_terminal_shows_a_bar_on_stderr_alone() -> None:
    program = (
        "from pneumo_edge._util import progress\n"
        "with progress.bar('Training', 7, done=4) as advance:\n"
        "    advance(2, 'loss 0.25')\n"
        "print('result')\n"
    )
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        text=True,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.stdout == "result\n"
    for part in ("Training", "6/7", "loss 0.25"):
        assert part in shown


@pytest.mark.slow
def test_a_notebook_shows_a_bar_that_replaces_itself() -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = (
        "from pneumo_edge._util import progress\n"
        "with progress.bar('Training', 7, done=4) as advance:\n"
        "    advance(3, 'loss 0.25')\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=60).execute()
    (output,) = notebook.cells[0].outputs
    assert re.fullmatch(r"Training ━+ 7/7 \S+ \S+ loss 0.25", output["data"]["text/plain"])
