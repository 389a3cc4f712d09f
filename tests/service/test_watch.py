"""A folder that is watched: each file once, whole, oldest first."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumo_edge.errors import ExitCode

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
pytest.importorskip("watchdog", reason="the extra 'watch' is not installed")

#: How long a test waits for what has to happen, in seconds; on a machine that does nothing else it takes moments.
_PATIENCE = 120.0


class Watch:
    """``pneumo-edge watch`` on ``inbox``, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.inbox, self.out = folder, folder / "inbox", folder / "results.jsonl"
        self.inbox.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: object, wait: bool = True) -> None:
        command = [sys.executable, "-m", "pneumo_edge", "watch", str(self.inbox), *map(str, options)]
        if "--out" not in options:
            command += ["--out", str(self.out)]
        with (self.folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                # A background process ignores it, and so do its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        if wait:
            assert self.process.stdout
            assert self.process.stdout.readline().startswith(f"Watching {self.inbox}"), self.log

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        with self.process:
            try:
                return self.process.wait(_PATIENCE)
            finally:
                self.process.kill()

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        if not self.out.exists():
            return []
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def names(self) -> list[str]:
        return [Path(verdict["source"]).name for verdict in self.verdicts]

    def names_after(self, size: int) -> list[str]:
        """Names in the lines after so many bytes."""
        return [Path(json.loads(line)["source"]).name for line in self.out.read_bytes()[size:].splitlines()]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        until(lambda: len(self.verdicts) >= count, lambda: f"{self.names} {self.log}")
        return self.verdicts


def until(happens: Callable[[], bool], told: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not happens():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    found = Watch(tmp_path)
    yield found
    if found.process and found.process.poll() is None:
        found.process.kill()
        found.process.wait()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise that differs, as JPEG and PNG."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 90), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{'png' if number % 2 else 'jpeg'}")
    return folder


def drop(image: Path, target: Path, age: float = 0) -> Path:
    """Put a copy of an image into a folder, in one piece, with a time of modification so many seconds ago."""
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(image, part)
    if age:
        os.utime(part, (time.time() - age,) * 2)
    part.rename(target)
    return target


def test_what_arrives_is_classified_as_predict_does(watch: Watch, images: Path) -> None:
    drop(images / "0.jpeg", watch.inbox / "before.jpeg")
    watch.start()
    watch.wait_for(1)
    (watch.inbox / "more").mkdir()
    drop(images / "1.png", watch.inbox / "more" / "after.png")
    first, second = watch.wait_for(2)
    assert watch.stop() == 0
    assert watch.names == ["before.jpeg", "after.png"]
    command = [sys.executable, "-m", "pneumo_edge", "predict", "--jsonl", first["source"], second["source"]]
    expected = [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]
    for verdict, same in zip((first, second), expected, strict=True):
        assert all(verdict[key] == same[key] for key in ("source", "label", "probabilities", "threshold", "uncertain"))
    assert [first["id"], second["id"]] == [1, 2]


def test_oldest_first_and_names_of_other_programs_are_left_alone(watch: Watch, images: Path) -> None:
    for age, name in ((10, "c.jpeg"), (30, "a.jpeg"), (20, "b.jpeg")):
        drop(images / "0.jpeg", watch.inbox / name, age)
    for name in (".hidden.jpeg", "half.jpeg.part", "half.TMP", "copy.jpeg~"):
        shutil.copyfile(images / "0.jpeg", watch.inbox / name)
    watch.start()
    watch.wait_for(3)
    assert watch.stop() == 0
    assert watch.names == ["a.jpeg", "b.jpeg", "c.jpeg"]


def test_a_file_is_taken_when_it_is_whole(watch: Watch, images: Path) -> None:
    data = (images / "1.png").read_bytes()
    watch.start()
    slow, locked = watch.inbox / "slow.png", watch.inbox / "locked.png"
    with slow.open("wb") as stream:
        for start in range(0, len(data), 4096):
            stream.write(data[start : start + 4096])
            stream.flush()
            time.sleep(0.05)
        holder = os.open(shutil.copyfile(images / "1.png", watch.inbox / ".locked"), os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        (watch.inbox / ".locked").rename(locked)
        # Whole, but one is open for writing and the other is locked.
        drop(images / "0.jpeg", watch.inbox / "marker.jpeg")
        watch.wait_for(1)
        assert watch.names == ["marker.jpeg"]
    watch.wait_for(2)
    assert watch.names == ["marker.jpeg", "slow.png"]
    os.close(holder)
    # Closed after each piece: what is there of it does not decode.
    for start in range(0, len(data), 4096):
        with (watch.inbox / "pieces.png").open("ab") as stream:
            stream.write(data[start : start + 4096])
        time.sleep(0.02)
    verdicts = watch.wait_for(4)
    assert watch.stop() == 0
    assert sorted(watch.names[2:]) == ["locked.png", "pieces.png"]
    assert not any("error" in verdict for verdict in verdicts)


def test_files_are_moved_and_a_name_may_come_again(watch: Watch, images: Path) -> None:
    done, failed, again = watch.folder / "done", watch.inbox / "failed", watch.inbox / "x-ray.jpeg"
    watch.start("--move", done, "--failed", failed, "--patience", "100ms")
    for number in (0, 2, 0):
        drop(images / f"{number}.jpeg", again)
        until(lambda: not again.exists(), lambda: watch.log)
    broken = watch.inbox / "folder" / "broken.png"
    broken.parent.mkdir()
    broken.write_bytes((images / "1.png").read_bytes()[:3000])
    # By a clock that is wrong, in a year that no 64-bit number of nanoseconds has.
    os.utime(broken, (time.time(), 13_569_465_600))
    until(lambda: not broken.exists(), lambda: watch.log)
    assert watch.stop() == 0
    assert watch.names == ["x-ray.jpeg"] * 3 + ["broken.png"]
    kept = {path.name: path.read_bytes() for path in done.iterdir()}
    one, other = ((images / name).read_bytes() for name in ("0.jpeg", "2.jpeg"))
    assert kept == {"x-ray.jpeg": one, "x-ray-2.jpeg": other, "x-ray-3.jpeg": one}
    assert (failed / "folder" / "broken.png").exists()
    assert "truncated" in watch.verdicts[-1]["error"]
    assert f"error: {broken}: " in watch.log


@pytest.mark.slow
def test_without_moving_a_file_is_classified_again_only_where_it_changes(watch: Watch, images: Path) -> None:
    path = drop(images / "0.jpeg", watch.inbox / "x-ray.jpeg", age=50)
    watch.start()
    watch.wait_for(1)
    assert watch.stop() == 0
    watch.start()
    drop(images / "1.png", watch.inbox / "other.png", age=40)
    watch.wait_for(2)
    drop(images / "2.jpeg", path)
    watch.wait_for(3)
    assert watch.stop() == 0
    assert watch.names == ["x-ray.jpeg", "other.png", "x-ray.jpeg"]


@pytest.mark.slow
def test_a_line_that_was_cut_short_is_written_again_and_a_whole_one_is_not(watch: Watch, images: Path) -> None:
    for number in range(2):
        drop(images / "0.jpeg", watch.inbox / f"{number}.jpeg", age=10 - number)
    watch.start()
    watch.wait_for(2)
    assert watch.stop() == 0
    whole = watch.out.read_bytes()
    import sqlite3

    for text in (whole[:-20], whole):
        watch.out.write_bytes(text)
        with contextlib.closing(sqlite3.connect(watch.folder / ".results.jsonl.ledger")) as ledger:
            # As it is between the verdict and the next step.
            line, place = whole.splitlines()[1].decode(), len(whole.splitlines(keepends=True)[0])
            ledger.execute("UPDATE files SET state = 'classified', line = ?, place = ? WHERE id = 2", (line, place))
            ledger.commit()
        watch.start()
        until(lambda: watch.out.read_bytes() == whole, lambda: watch.log)
        assert watch.stop() == 0
        assert watch.out.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_on_a_full_disk_it_waits_and_then_completes_the_line(watch: Watch, images: Path) -> None:
    before = b'{"earlier": true}\n' * 60_000
    watch.out.write_bytes(before)
    watch.start()
    drop(images / "0.jpeg", watch.inbox / "0.jpeg", age=10)
    until(lambda: watch.out.stat().st_size > len(before), lambda: watch.log)
    assert watch.process
    # A limit on the size of files stops a write midway, as a full disk does.
    size, (_, most) = watch.out.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(watch.process.pid, resource.RLIMIT_FSIZE, (size + 100, most))
    drop(images / "2.jpeg", watch.inbox / "1.jpeg")
    until(lambda: "nothing is lost" in watch.log, lambda: watch.log)
    resource.prlimit(watch.process.pid, resource.RLIMIT_FSIZE, (most, most))
    drop(images / "1.png", watch.inbox / "2.png")
    until(lambda: watch.out.read_bytes().count(b"\n") == 60_003, lambda: watch.log)
    assert watch.stop() == 0
    assert watch.out.read_bytes().startswith(before)
    assert watch.names_after(len(before)) == ["0.jpeg", "1.jpeg", "2.png"]


@pytest.mark.slow
def test_a_file_that_ends_the_process_again_and_again_has_failed(watch: Watch, images: Path) -> None:
    drop(images / "0.jpeg", watch.inbox / "fatal.jpeg", age=20)
    drop(images / "2.jpeg", watch.inbox / "next.jpeg", age=10)
    watch.start()
    watch.wait_for(2)
    assert watch.stop() == 0
    import sqlite3

    watch.out.unlink()
    with contextlib.closing(sqlite3.connect(watch.folder / ".results.jsonl.ledger")) as ledger:
        ledger.execute("DELETE FROM files WHERE id = 2")
        ledger.execute("UPDATE files SET state = 'begun', tries = 5")
        ledger.commit()
    watch.start()
    fatal, following = watch.wait_for(2)
    assert watch.stop() == 0
    assert "ended the process 5 times" in fatal["error"]
    assert following["label"]


def test_a_command_gets_each_verdict_until_it_takes_it(watch: Watch, images: Path) -> None:
    taken, refusals = watch.folder / "taken.jsonl", watch.folder / "refused"
    program = watch.folder / "take.sh"
    program.write_text(f"#!/bin/sh\ntest -e '{refusals}' || {{ touch '{refusals}'; exit 7; }}\ncat >> '{taken}'\n")
    program.chmod(0o755)
    watch.start("--command", f"'{program}'", "--move", watch.folder / "done")
    for number in (0, 2):
        drop(images / f"{number}.jpeg", watch.inbox / f"{number}.jpeg", age=10 - number)
    until(lambda: not list(watch.inbox.iterdir()), lambda: watch.log)
    assert watch.stop() == 0
    assert taken.read_text() == watch.out.read_text()
    assert watch.log.count("the command did not take the verdict 1 (it ended with 7)") == 1
    assert watch.log.count("note: the command takes verdicts again") == 1


def test_a_command_that_hangs_ends_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pneumo_edge.service.watch import run

    monkeypatch.setattr(run, "_COMMAND_SECONDS", 0.5)
    monkeypatch.setattr(run, "SECONDS", 0.1)
    told: list[bool] = []
    taken = tmp_path / "taken"
    script = f"cat > '{taken}'; sleep 1000 & echo $! > '{taken}.pid'; wait"
    assert "did not end within" in run._run(("sh", "-c", script), b"line\n", lambda: not told.append(True))  # type: ignore[func-returns-value]
    assert taken.read_bytes() == b"line\n"
    # It may stay in the table of processes until its new parent asks for it.
    state = Path("/proc", taken.with_suffix(".pid").read_text().strip(), "stat")
    until(lambda: not state.exists() or ") Z " in state.read_text())
    assert told


@pytest.mark.slow
def test_verdicts_in_parquet_by_day(watch: Watch, images: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = watch.folder / "scores"
    drop(images / "0.jpeg", watch.inbox / "0.jpeg")
    (watch.inbox / "1.jpeg").write_bytes(b"no image")
    watch.start("--out", out, "--patience", "100ms", "--move", watch.folder / "done")
    until(lambda: "1.jpeg: " in watch.log, lambda: watch.log)
    assert watch.stop() == 0
    (part,) = out.glob("day=*/verdicts-*.parquet")
    rows = parquet.ParquetFile(part).read().to_pylist()
    assert sorted(Path(row["image"]).name for row in rows) == ["0.jpeg", "1.jpeg"]
    assert sum(row["error"] is not None for row in rows) == 1
    assert list((watch.folder / "done").iterdir()) == [watch.folder / "done" / "0.jpeg"]
    # What was classified with another model before a kill is written as that model's.
    import sqlite3

    for number, options in ((2, ()), (3, ("--model", "efficientnetb0"))):
        watch.start("--out", out, *options)
        drop(images / "2.jpeg", watch.inbox / f"{number}.jpeg")
        with contextlib.closing(sqlite3.connect(out / "_ledger")) as ledger:
            waits = "SELECT 1 FROM files WHERE state = 'classified' AND CAST(path AS TEXT) LIKE ?"
            until(lambda: ledger.execute(waits, (f"%{number}.jpeg",)).fetchone() is not None, lambda: watch.log)  # noqa: B023
        watch.stop(signal.SIGTERM if options else signal.SIGKILL)
    parts = [parquet.ParquetFile(path) for path in sorted(out.glob("day=*/*"))]
    assert [part.schema_arrow.metadata[b"model"] for part in parts] == [
        b"mobilenetv2-int8", b"mobilenetv2-int8", b"efficientnetb0-int8",
    ]  # fmt: skip
    assert all(part.read().to_pylist()[-1]["NORMAL"] is not None for part in parts[1:])


@pytest.mark.slow
def test_heartbeat_metrics_and_one_watch_at_a_time(watch: Watch, images: Path) -> None:
    state, metrics = watch.folder / "state.json", watch.folder / "metrics.prom"
    drop(images / "0.jpeg", watch.inbox / "0.jpeg")
    watch.start("--heartbeat", state, "--metrics", metrics)
    watch.wait_for(1)
    second = Watch.__new__(Watch)
    second.__dict__ |= {**watch.__dict__, "process": None}
    second.start(wait=False)
    assert second.process
    with second.process:
        assert second.process.wait(_PATIENCE) == ExitCode.FAILED
    assert "another watch is writing" in watch.log
    assert watch.stop() == 0
    told = json.loads(state.read_text())
    assert (told["classified"], told["failed"], told["waiting"], told["problem"]) == (1, 0, 0, None)
    assert 'pneumo_edge_verdicts_total{label="' in metrics.read_text()
    assert "pneumo_edge_watch_waiting 0.0" in metrics.read_text()


def test_polling_finds_files_without_events(watch: Watch, images: Path) -> None:
    watch.start("--poll", "100ms")
    drop(images / "0.jpeg", watch.inbox / "0.jpeg")
    watch.wait_for(1)
    assert watch.stop(signal.SIGINT) == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--out", "results.csv"), "neither a .jsonl file nor a folder"),
        (("--move", "."), "contains the folder that is watched"),
        (("--command", "'"), "is not a command"),
        (("--command", "no-such-program --fast"), "'no-such-program' is not a program"),
        (("--command", " "), "an empty text is not a program"),
        (("--out", "inbox"), "contains the folder that is watched"),
        (("--heartbeat", "results.jsonl"), "is also the file of --out"),
        (("--metrics", ".results.jsonl.ledger"), "is also the file of the ledger"),
        (("--heartbeat", "inbox"), "is a folder, not a file to write"),
        (("--move", "log.txt"), "is a file, not a folder"),
    ],
)
def test_wrong_usage(watch: Watch, options: tuple[str, ...], line: str) -> None:
    watch.start(*options, wait=False)
    assert watch.process
    with watch.process:
        assert watch.process.wait(_PATIENCE) == ExitCode.USAGE
    assert line in " ".join(watch.log.replace("│", " ").split())


@pytest.mark.slow
def test_a_folder_in_the_place_of_the_watched_one_is_watched(watch: Watch, images: Path) -> None:
    watch.start("--move", watch.folder / "done")
    drop(images / "0.jpeg", watch.inbox / "0.jpeg")
    until(lambda: not list(watch.inbox.iterdir()), lambda: watch.log)
    second = Watch.__new__(Watch)
    second.__dict__ |= {**watch.__dict__, "process": None}
    second.start("--out", "other.jsonl", "--move", "elsewhere", wait=False)
    assert second.process
    with second.process:
        assert second.process.wait(_PATIENCE) == ExitCode.FAILED
    assert "another watch moves files out of" in watch.log
    watch.inbox.rename(watch.folder / "old")
    watch.inbox.mkdir()
    until(lambda: "another folder is in its place" in watch.log, lambda: watch.log)
    drop(images / "2.jpeg", watch.inbox / "1.jpeg")
    watch.wait_for(2)
    assert watch.stop() == 0
    assert watch.names == ["0.jpeg", "1.jpeg"]


@pytest.mark.slow
def test_four_writers_and_kills_each_file_exactly_once(watch: Watch, images: Path) -> None:
    """What `make watch-trial` does with 10,000 files and ten kills, in small."""
    from tools.watch_trial import Writer

    sources = sorted(images.iterdir())
    writers = [Writer(watch.inbox, sources, name, 30, seed) for seed, name in enumerate(("w0", "w1", "w2", "w3"))]
    threads = [threading.Thread(target=writer.write) for writer in writers]
    options = ("--move", watch.folder / "done")
    watch.start(*options)
    for thread in threads:
        thread.start()
    chance = random.Random(7)
    for count in (10, 30, 55, 80):
        watch.wait_for(count)
        time.sleep(chance.uniform(0, 0.05))
        assert watch.stop(signal.SIGKILL) == -signal.SIGKILL
        watch.start(*options)
    for thread in threads:
        thread.join()
    until(lambda: not any(path.is_file() for path in watch.inbox.rglob("*")), lambda: watch.log)
    assert watch.stop() == 0
    expected = {str(path) for writer in writers for path in writer.names}
    assert Counter(verdict["source"] for verdict in watch.verdicts) == Counter(expected)
    assert not any("error" in verdict for verdict in watch.verdicts)
    assert len([path for path in (watch.folder / "done").rglob("*") if path.is_file()]) == len(expected)
