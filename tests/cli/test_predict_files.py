"""``predict`` on a folder: files of verdicts that are whole or not there, and runs that are cut short and go on."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge import Classifier
from pneumo_edge._util import extras
from pneumo_edge.cli import app

Run = Callable[..., Any]

_ENDINGS = [".csv", ".json", ".jsonl", ".parquet"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images and one that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(12):
        Image.effect_noise((300 + index, 250), 60).save(folder / f"{index:02}.png")
    (folder / "05b.png").write_bytes(b"nonsense")
    return folder


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of verdicts: image, label, probability of pneumonia, error."""
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
        return [{"image": row["image"], "label": row["label"], "p": row["PNEUMONIA"], "error": row["error"]}
                for row in table]  # fmt: skip
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return [
                {"image": row["image"], "label": row["label"] or None,
                 "p": float(row["PNEUMONIA"]) if row["PNEUMONIA"] else None, "error": row["error"] or None}
                for row in csv.DictReader(stream)
            ]  # fmt: skip
    text = path.read_text()
    images = json.loads(text)["images"] if path.suffix == ".json" else list(map(json.loads, text.splitlines()))
    return [
        {"image": image["source"], "label": image.get("label"), "error": image.get("error"),
         "p": image.get("probabilities", {}).get("PNEUMONIA")}
        for image in images
    ]  # fmt: skip


def _expected(folder: Path) -> list[dict[str, Any]]:
    classifier = Classifier()
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        if path.name == "05b.png":
            rows.append({"image": str(path), "label": None, "p": None})
        else:
            result = classifier.predict(path)
            rows.append({"image": str(path), "label": result.label, "p": result.probabilities["PNEUMONIA"]})
    return rows


def _without_errors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "error"} for row in rows]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ending", _ENDINGS)
def test_every_kind_of_file_says_the_same(run: Run, tmp_path: Path, folder: Path, ending: str, workers: int) -> None:
    if ending == ".parquet" and not extras.is_installed("pyarrow"):
        pytest.skip("the extra 'parquet' is not installed")
    out = tmp_path / "new" / f"verdicts{ending}"
    done = run("predict", folder, "--out", out, "--workers", workers)
    assert done.code == 4
    line, remark = done.errors
    rows = _read(out)
    assert _without_errors(rows) == _expected(folder)
    (error,) = [row["error"] for row in rows if row["error"]]
    assert line == f"error: {folder / '05b.png'}: {error}"
    # These pictures are no X-rays.
    assert remark.startswith("warning: 12 of 13 images are out-of-distribution")
    assert done.out.startswith(f"{out}: 13 images: ")
    assert "1 not classified" in done.out
    assert list(out.parent.iterdir()) == [out]


def test_json_lines_on_standard_output_are_those_of_the_file(run: Run, tmp_path: Path, folder: Path) -> None:
    (folder / "05b.png").unlink()
    done = run("predict", folder, "--jsonl")
    assert done.code == 0
    (remark,) = done.errors
    assert remark.startswith("warning: 12 of 12 images are out-of-distribution")
    printed = tmp_path / "printed.jsonl"
    printed.write_text(done.out)
    assert _without_errors(_read(printed)) == _expected(folder)


@pytest.mark.parametrize("option", ["--json", "--csv", "--jsonl", ""])
def test_workers_change_nothing_that_is_printed(run: Run, folder: Path, option: str) -> None:
    words = ["predict", folder, *filter(None, [option])]
    alone, together = run(*words, "--workers", 1), run(*words, "--workers", 4)
    assert (together.code, together.err) == (alone.code, alone.err) == (4, alone.err)
    assert len(together.out.splitlines()) == len(alone.out.splitlines())
    if option == "--jsonl":
        times = {"timings", "total_ms"}
        ours, theirs = (
            [{key: value for key, value in json.loads(line).items() if key not in times} for line in text.splitlines()]
            for text in (together.out, alone.out)
        )
        assert ours == theirs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x.txt"], "does not end in .csv, .json, .jsonl, .parquet"),
        (["--out", "x"], "does not end in"),
        (["--resume"], "needs --out"),
        (["--out", "x.csv", "--csv"], "give only one of"),
        (["--jsonl", "--csv"], "give only one of"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(tmp_path: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["predict", str(tmp_path), *words], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_nothing_is_judged_for_a_parquet_file(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    result = CliRunner().invoke(app, ["predict", str(folder), "--out", str(tmp_path / "x.parquet")])
    assert result.exit_code == 3
    assert 'Run: pip install "pneumo-edge[parquet]"' in result.stderr
    assert list(tmp_path.iterdir()) == [folder]


# Cut short, and going on


def _kill_midway(command: list[str], folder: Path, out: Path, signal_number: int, *further: object) -> int:
    """Start judging, and end the process when some verdicts are kept; how many these are."""
    partial = out.with_name(out.name + ".partial")
    words = ["predict", folder, "--out", out, *further]
    process = subprocess.Popen(
        [*command, *map(str, words)], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 4) and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=60)
    if signal_number == signal.SIGINT:
        assert process.returncode == 130
        assert errors.decode().splitlines() == [
            "error: interrupted; finished work is saved. Run the same command with --resume to continue"
        ]
    assert not out.exists()
    return partial.read_bytes().count(b"\n") - 1


@pytest.fixture
def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "long"
    folder.mkdir()
    Image.effect_noise((1500, 1500), 60).save(folder / "0000.png")
    for index in range(1, 60):
        os.link(folder / "0000.png", folder / f"{index:04}.png")
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize(("ending", "workers"), [(".csv", 1), (".jsonl", 2)])
def test_what_a_killed_process_had_judged_is_not_judged_again(
    command: list[str], run: Run, long_folder: Path, tmp_path: Path, how: int, ending: str, workers: int
) -> None:
    out = tmp_path / f"out{ending}"
    kept = _kill_midway(command, long_folder, out, how, "--workers", workers)
    assert 4 <= kept < 60
    # What is kept is taken as it is, so a mark in it shows that it is.
    partial = out.with_name(out.name + ".partial")
    partial.write_bytes(re.sub(rb'"PNEUMONIA": [^,}]+', b'"PNEUMONIA": 0.123456', partial.read_bytes()))
    done = run("predict", long_folder, "--out", out, "--resume")
    assert done.code == 0
    rows = _read(out)
    assert [row["image"] for row in rows] == list(map(str, sorted(long_folder.iterdir())))
    assert [row["p"] == 0.123456 for row in rows] == [True] * kept + [False] * (60 - kept)
    assert not partial.exists()


def _partial(folder: Path, out: Path) -> Path:
    """The verdicts of a run that was cut short at its very end."""

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", str(out))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("pneumo_edge.cli.predictions.write", fail)
        assert CliRunner().invoke(app, ["predict", str(folder), "--out", str(out)]).exit_code == 3
    return out.with_name(out.name + ".partial")


def test_a_line_that_was_cut_short_is_judged_again(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    partial = _partial(folder, out)
    lines = partial.read_bytes().splitlines(keepends=True)
    for end in (b"".join(lines[:4]) + lines[4][:30], lines[0], lines[0][:20], b"", b"".join(lines[:3]) + b"\0\0\n"):
        partial.write_bytes(end)
        assert run("predict", folder, "--out", out, "--resume").code == 4
        assert _without_errors(_read(out)) == _expected(folder)
        assert not partial.exists()


def test_a_folder_that_has_changed_is_judged_from_there_on(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    _partial(folder, out)
    shutil.copy(folder / "11.png", folder / "03b.png")
    assert run("predict", folder, "--out", out, "--resume").code == 4
    assert _without_errors(_read(out)) == _expected(folder)


def test_an_interrupted_runs_verdicts_are_not_overwritten_nor_mixed(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    partial = _partial(folder, out)
    before = partial.read_bytes()
    for words, said in [
        ([], "contains the results of an interrupted run; expected no such file, or --resume"),
        (["--resume", "--model", "efficientnetb0"], "contains results of another model or engine"),
    ]:
        done = run("predict", folder, "--out", out, *words)
        assert done.code == 3
        (line,) = done.errors
        assert said in line
        assert partial.read_bytes() == before
        assert not out.exists()


def test_resume_with_nothing_to_resume_begins(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert run("predict", folder, "--out", out, "--resume").code == 4
    assert len(_read(out)) == 13
    before = out.read_bytes()
    assert run("predict", folder / "00.png", "--out", out).code == 0
    assert out.read_bytes() != before


# Places that cannot be written


def test_a_full_disk_keeps_what_fitted_and_the_next_run_goes_on(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def full() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))

    done = run("predict", folder, "--out", out, preexec_fn=full)
    assert done.code == 3
    (line,) = [line for line in done.errors if "05b.png" not in line]
    assert line.startswith(f"error: cannot use {out}.partial: File too large. ")
    assert not out.exists()
    done = run("predict", folder, "--out", out, "--resume")
    assert done.code == 4
    assert _without_errors(_read(out)) == _expected(folder)
    assert {path.name for path in tmp_path.iterdir()} >= {"in", "out.csv"}
    assert not out.with_name("out.csv.partial").exists()


def test_a_folder_that_cannot_be_written_is_one_line(
    run: Run, folder: Path, tmp_path: Path, obey_permissions: Callable[[], None]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    done = run("predict", folder, "--out", closed / "out.csv", preexec_fn=obey_permissions)
    assert done.code == 3
    assert done.errors == [
        f"error: cannot use {closed / 'out.csv'}: Permission denied. Check path, permissions and free space"
    ]
    assert list(closed.iterdir()) == []


# What is shown meanwhile


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
def test_a_terminal_shows_a_bar_and_a_pipe_none(command: list[str], folder: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [*command, "predict", str(folder), "--csv"],
        stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 1_000_000).decode()
    os.close(ours)
    assert "Classifying" in shown
    assert "13/13" in shown
    assert "05b.png" in shown
    assert len(done.stdout.splitlines()) == 14
    piped = subprocess.run([*command, "predict", str(folder), "--csv"], capture_output=True, text=True, check=False)
    assert "Classifying" not in piped.stderr + piped.stdout
