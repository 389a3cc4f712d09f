"""What ends, breaks or fills up while an archive is scored: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge import Classifier, score
from pneumo_edge.api.score import Scored, _tell_unmoved
from pneumo_edge.errors import StoreError
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import listing, plan, rows, run, stores, workers
from pneumo_edge.scale.run import Job, ScoreManifest
from pneumo_edge.scale.shards import Scorer, Task
from pneumo_edge.scale.workers import EndedError, LocalWorker
from tests.scale import archives

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

_NAMES = [f"{number // 8}/{number:02d}.png" for number in range(24)]
_SIZE = 8
#: In an image: the process that decodes it ends, or waits for ever and says so by a file.
_POISON, _WAIT = b"POISON", b"WAIT"
#: A module that Python imports as it starts.
_SITECUSTOMIZE = f"""
import os, pathlib, signal, time
from pneumo_edge.imaging import images
decode = images.decode
def disturbed(data, *arguments):
    if {_POISON!r} in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if {_WAIT!r} in data:
        pathlib.Path(os.environ["WAITS"]).touch()
        time.sleep(3600)
    return decode(data, *arguments)
images.decode = disturbed
"""


@pytest.fixture
def disturbing(tmp_path: Path) -> dict[str, str]:
    """Variables for processes that mind :data:`_POISON` and :data:`_WAIT`."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return {"PYTHONPATH": str(tmp_path / "python"), "WAITS": str(tmp_path / "waits")}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archives.draw(tmp_path_factory.mktemp("archive") / "images", _NAMES)


@pytest.fixture(scope="module")
def undisturbed(classifier: Classifier, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoreManifest:
    place = tmp_path_factory.mktemp("undisturbed") / "out"
    planned = plan.make(str(place), listing.open_source(str(archive)), _SIZE, lambda images: None)
    job = Job(str(place), planned, PredictorIdentity.of(classifier))
    counts = run.score(job, set(), [archives.Here(Scorer(job.setup(str(classifier.path))))], lambda counts: None)
    return run.close(job, set(), counts, classifier.spec)


def _rows(scored: Scored) -> list[dict[str, Any]]:
    return archives.answers(archives.read_rows(scored.folder, scored.manifest))


@pytest.mark.slow
def test_image_that_ends_its_process_costs_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disturbing: dict[str, str], undisturbed: ScoreManifest
) -> None:
    for name, value in disturbing.items():
        monkeypatch.setenv(name, value)
    poisoned = archives.draw(tmp_path / "in", _NAMES)
    for name in ("1/09.png", "1/14.png"):
        (poisoned / name).write_bytes(_POISON)
    found = score(poisoned, tmp_path / "out", workers=1, shard_size=_SIZE)
    assert found.manifest.errors == {"CrashError": 2}
    rows = _rows(found)
    assert [row["name"] for row in rows] == _NAMES
    assert [row["name"] for row in rows if row["error"]] == ["1/09.png", "1/14.png"]
    assert "ended its process (signal SIGSEGV)" in str(rows[9]["error"])
    # The other shards are as if there were no such images.
    assert [found.manifest.shards[number].rows_sha256 for number in (0, 2)] == [
        undisturbed.shards[number].rows_sha256 for number in (0, 2)
    ]


@pytest.mark.slow
def test_killed_workers_are_replaced(archive: Path, tmp_path: Path, undisturbed: ScoreManifest) -> None:
    psutil = pytest.importorskip("psutil", reason="the extra 'bench' is not installed")

    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02) and len(killed) < 3:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    # This process may have other children.
                    if workers.__name__ in child.cmdline() and child.pid not in killed:
                        child.kill()
                        killed.add(child.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = score(archive, tmp_path / "out", workers=2, shard_size=_SIZE)
    finally:
        over.set()
        killer.join()
    assert killed
    assert found.manifest.rows_sha256 == undisturbed.rows_sha256


@pytest.mark.slow
def test_killed_run_is_continued(archive: Path, tmp_path: Path, disturbing: dict[str, str]) -> None:
    psutil = pytest.importorskip("psutil", reason="the extra 'bench' is not installed")

    place, waits = tmp_path / "out", Path(disturbing["WAITS"])
    # No run comes to its end before it is killed.
    waiting = archives.draw(tmp_path / "in", _NAMES)
    with (waiting / _NAMES[20]).open("ab") as stream:
        stream.write(_WAIT)
    command = [sys.executable, "-m", "pneumo_edge", "score", str(waiting), "--out", str(place), "--shard-size", "2"]
    done = 0
    for ending in (signal.SIGKILL, signal.SIGTERM):
        # A run may begin at the shard that waits, and is then killed there.
        waits.unlink(missing_ok=True)
        with subprocess.Popen(
            [*command, "--workers", "1"], stderr=subprocess.PIPE, text=True, env={**os.environ, **disturbing}
        ) as process:
            while process.poll() is None and len(list(place.glob("model=*/0*.parquet"))) == done and not waits.exists():
                time.sleep(0.01)
            children = psutil.Process(process.pid).children()
            process.send_signal(ending)
            _, told = process.communicate()
        # Its workers end with it.
        psutil.wait_procs(children, timeout=60)
        assert children and not any(child.is_running() for child in children)
        done = len(list(place.glob("model=*/0*.parquet")))
    assert process.returncode == 130
    assert "interrupted; finished work is saved. Run the same command again to continue" in told
    assert done < 12
    found = score(waiting, place, shard_size=2, workers=1)
    assert found.images == 24 - 2 * done
    whole = score(archive, tmp_path / "whole", shard_size=2, workers=1)
    assert _rows(found) == _rows(whole)
    assert not list(Path(found.folder).glob(".partial-*"))


def test_full_disk_is_told_and_the_finished_shards_stay(
    classifier: Classifier, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: ScoreManifest
) -> None:
    planned = plan.make(str(tmp_path), listing.open_source(str(archive)), _SIZE, lambda images: None)
    job = Job(str(tmp_path), planned, PredictorIdentity.of(classifier))
    scorer = Scorer(job.setup(str(classifier.path)))
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: write(full if "0000001-" in path.name else path, data))
    with pytest.raises(OSError, match="No space left on device") as caught:
        run.score(job, set(), [archives.Here(scorer)], lambda counts: None)
    assert str(caught.value.filename).endswith(".parquet")
    monkeypatch.undo()
    done = run.finished(job)
    assert len(done) < 3 and not any(name.startswith(".partial") for name in done)
    counts = run.score(job, done, [archives.Here(scorer)], lambda counts: None)
    assert run.close(job, done, counts, classifier.spec).rows_sha256 == undisturbed.rows_sha256


@pytest.fixture
def failing(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], bool]], None]]:
    """Sets which images the store ``memory://archive`` fails for, by their names; it is asked at every attempt."""
    fsspec = pytest.importorskip("fsspec", reason="the extra 'scale' is not installed")
    monkeypatch.setattr(stores, "_WAITS", (0.0,))
    system = fsspec.filesystem("memory")
    for name in _NAMES:
        system.pipe_file(f"/archive/{name}", (archive / name).read_bytes())
    fails: list[Callable[[str], bool]] = [lambda name: False]
    read = type(system).cat_file

    def cat_file(self: Any, path: str, *arguments: Any, **more: Any) -> Any:
        _, is_of_archive, name = path.rpartition("archive/")
        if is_of_archive and fails[0](name):
            raise OSError("500 Internal Error")
        return read(self, path, *arguments, **more)

    monkeypatch.setattr(type(system), "cat_file", cat_file)
    yield partial(fails.__setitem__, 0)
    system.store.clear()


def _from_store(classifier: Classifier) -> tuple[Job, Scorer]:
    place = "memory://scored"
    planned = plan.make(place, listing.open_source("memory://archive"), _SIZE, lambda images: None)
    job = Job(place, planned, PredictorIdentity.of(classifier))
    return job, Scorer(job.setup(str(classifier.path)))


def test_shards_of_which_a_store_fails_are_scored_by_the_next_run(
    classifier: Classifier,
    undisturbed: ScoreManifest,
    failing: Callable[[Callable[[str], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The run takes the shards in their order.
    monkeypatch.setattr(random, "sample", lambda found, size: found)
    job, scorer = _from_store(classifier)
    asked: set[str] = set()

    def down_since(name: str) -> bool:
        asked.add(name)
        return "1/09.png" in asked

    # It breaks down within the second shard, so images of that one can be read, and images of the third cannot.
    failing(down_since)
    with pytest.raises(StoreError, match=r"2 shards could not be scored, the first because .*500 Internal"):
        run.score(job, set(), [archives.Here(scorer)], lambda counts: None)
    done = run.finished(job)
    assert len(done) == 1
    failing(lambda name: False)
    counts = run.score(job, done, [archives.Here(scorer)], lambda counts: None)
    assert sorted(counts) == [1, 2]
    assert run.close(job, done, counts, classifier.spec).rows_sha256 == undisturbed.rows_sha256


def test_image_that_its_store_never_gives_costs_its_row(
    classifier: Classifier, undisturbed: ScoreManifest, failing: Callable[[Callable[[str], bool]], None]
) -> None:
    failing(lambda name: name in ("0/00.png", "1/09.png"))
    job, scorer = _from_store(classifier)
    counts = run.score(job, set(), [archives.Here(scorer)], lambda counts: None)
    manifest = run.close(job, set(), counts, classifier.spec)
    assert manifest.errors == {"ImageError": 2} and manifest.images == len(_NAMES)
    assert manifest.shards[2].rows_sha256 == undisturbed.shards[2].rows_sha256


def test_shards_that_do_not_move_are_named(
    classifier: Classifier, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_QUIET", 0.01)
    planned = plan.make(str(tmp_path), listing.open_source(str(archive)), len(_NAMES), lambda images: None)
    job = Job(str(tmp_path), planned, PredictorIdentity.of(classifier))
    scorer = Scorer(job.setup(str(classifier.path)))
    told: list[str] = []
    told_once = threading.Event()

    def unmoved(shards: Mapping[int, float]) -> None:
        _tell_unmoved(told.append, shards)
        if shards:
            told_once.set()

    def waiting(task: Task) -> rows.ShardCounts:
        assert told_once.wait(60)
        return scorer(task)

    run.score(job, set(), [archives.Here(waiting)], lambda counts: None, unmoved=unmoved)
    assert "note: no shard was finished for a while; at work: 0 for 0 s" in told


def test_two_runs_at_the_same_time_share_the_work(
    classifier: Classifier, archive: Path, tmp_path: Path, undisturbed: ScoreManifest
) -> None:
    planned = plan.make(str(tmp_path), listing.open_source(str(archive)), _SIZE, lambda images: None)
    job = Job(str(tmp_path), planned, PredictorIdentity.of(classifier))
    scorer = Scorer(job.setup(str(classifier.path)))
    others: list[dict[int, rows.ShardCounts]] = []

    def after_another(task: Task) -> rows.ShardCounts:
        if not others:
            others.append({})
            others[0] = run.score(job, set(), [archives.Here(scorer)], lambda counts: None)
        return scorer(task)

    counts = run.score(job, set(), [archives.Here(after_another)], lambda counts: None)
    # Both scored the shard that one was at, and nothing else is done twice.
    assert (len(counts), sorted(others[0])) == (1, [0, 1, 2])
    assert run.close(job, set(), counts, classifier.spec).rows_sha256 == undisturbed.rows_sha256


class _Doubled:
    """A function for a worker."""

    def __init__(self, setup: Mapping[str, int]) -> None:
        if setup["factor"] == 0:
            raise ValueError("no factor")
        self._factor = setup["factor"]

    def __call__(self, number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        print("libraries may print")
        return self._factor * number


def test_worker_returns_raises_ends_and_starts_again() -> None:
    worker: LocalWorker[int, int] = LocalWorker(_Doubled, {"factor": 2})
    try:
        assert worker(2) == 4
        with pytest.raises(ValueError, match="negative"):
            worker(-1)
        with pytest.raises(EndedError, match="signal SIGKILL"):
            worker(13)
        assert worker(3) == 6
    finally:
        worker.stop()
        worker.close()
    with pytest.raises(EndedError, match="it was closed"):
        worker(1)
    broken: LocalWorker[int, int] = LocalWorker(_Doubled, {"factor": 0})
    for _ in range(2):
        with pytest.raises(ValueError, match="no factor"):
            broken(1)
