"""Disturbs ``score`` and compares what it writes with an undisturbed run: ``make score-faults``.

Phantom images are scored by ``predict``, by processes of this machine, by a Ray cluster of four nodes, and from and to
an object store on loopback. Then the run and its workers are killed at random moments, a node of the cluster is lost,
the store fails one request in twenty and answers late, and images end the processes that read them. The record says of
each whether all rows are those of the undisturbed run. With ``--undisturbed`` nothing is killed, and with ``--archive``
the images are those of a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import pneumo_edge
from pneumo_edge._util import files
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.runtime.batch import predict_each
from pneumo_edge.runtime.classifier import Classifier, Prediction
from pneumo_edge.scale import rows, workers
from pneumo_edge.scale.cluster import ActorWorker

_DRAWN, _NODES = 100, 4
_BUCKET = "archive"
#: A store that fails: of how many requests one, and how long the others wait.
_FAILS, _LATENCY_S = 20, 0.02
_POISON = b"POISON"
_SITECUSTOMIZE = f"""
import os, signal
from pneumo_edge.imaging import images
decode = images.decode
def disturbed(data, *arguments):
    if {_POISON!r} in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(data, *arguments)
images.decode = disturbed
"""


@dataclass(frozen=True)
class Trial:
    """What was done, how often, and whether the rows are those of the undisturbed run."""

    what: str
    times: int
    images: int
    same: bool
    seconds: float


class _Trials:
    def __init__(self, folder: Path, archive: Path, kills: int, shard_size: int) -> None:
        self._folder, self._kills, self._shard_size = folder, kills, shard_size
        self._random = random.Random(0)
        self.archive = archive
        self.trials: list[Trial] = []
        self._images = sum(1 for path in archive.rglob("*.*"))
        self._expected = ""
        self._seconds = 0.0

    def add(self, what: str, times: int, run: Callable[[], bool]) -> None:
        """Carry out a trial."""
        began = time.monotonic()
        same = run()
        trial = Trial(what, times, self._images, same, round(time.monotonic() - began, 1))
        self.trials.append(trial)
        print(trial, file=sys.stderr, flush=True)

    def undisturbed(self) -> bool:
        """Score in processes, and compare with ``predict``."""
        began = time.monotonic()
        scored = self.score("undisturbed")
        self._seconds = time.monotonic() - began
        self._expected = scored.manifest.rows_sha256
        return _as_predict(self.archive, scored.folder)

    def score(self, place: str, source: str | None = None, **more: Any) -> Any:
        """Score into a folder of this run, or into an address."""
        out = place if "://" in place else str(self._folder / place)
        given = {"shard_size": self._shard_size, "workers": None, "tell": lambda line: None, **more}
        return pneumo_edge.score(source or str(self.archive), out, **given)

    def same(self, scored: Any) -> bool:
        """Whether the rows are those of the undisturbed run."""
        return bool(scored.manifest.rows_sha256 == self._expected)

    def killed_runs(self) -> bool:
        """Kill the command again and again at random moments, and let it finish."""
        place = self._folder / "killed"
        command = [sys.executable, "-m", "pneumo_edge", "score", str(self.archive), "--out", str(place)]
        killed = 0
        while killed < self._kills:
            process = subprocess.Popen(
                [*command, "--shard-size", str(self._shard_size)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(self._random.uniform(0.3, 0.7 * self._seconds))
                # It has finished: it begins anew.
                shutil.rmtree(place)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
        return self.same(self.score("killed"))

    def killed_workers(self) -> bool:
        """Kill one worker after another at random moments."""
        import psutil

        killed, over = 0, threading.Event()

        def kill() -> None:
            nonlocal killed
            while killed < self._kills and not over.wait(self._random.uniform(0.1, 1.4 * self._seconds / self._kills)):
                found = [child for child in psutil.Process().children() if workers.__name__ in child.cmdline()]
                if found:
                    self._random.choice(found).kill()
                    killed += 1

        killer = threading.Thread(target=kill)
        killer.start()
        same, number = True, 0
        while killed < self._kills:
            same &= self.same(self.score(f"workers-{number}"))
            number += 1
        over.set()
        killer.join()
        return same

    def lost_node(self) -> bool:
        """Score on a cluster that loses a node."""
        with _cluster() as (cluster, nodes):
            lost: list[str] = []
            call = ActorWorker.__call__

            def call_and_lose(worker: Any, task: Any) -> Any:
                if task.shard == 2 and worker.node in nodes and not lost:
                    lost.append(worker.node)
                    cluster.remove_node(nodes[worker.node], allow_graceful=False)
                return call(worker, task)

            with mock.patch.object(ActorWorker, "__call__", call_and_lose):
                return self.same(self.score("lost-node", address=cluster.address))

    def crashing_images(self) -> bool:
        """Put images among the others that end the process which reads them; the other rows stay the same."""
        python, poisoned = self._folder / "python", self._folder / "poisoned"
        python.mkdir()
        (python / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        shutil.copytree(self.archive, poisoned)
        names = sorted(path.relative_to(poisoned).as_posix() for path in poisoned.rglob("*.*"))
        bad = set(self._random.sample(names, 3))
        for name in bad:
            (poisoned / name).write_bytes(_POISON)
        with mock.patch.dict(os.environ, {"PYTHONPATH": str(python)}):
            scored = self.score("crashing", str(poisoned))
        found, whole = _rows(scored.folder), _rows(self.score("undisturbed").folder)
        return {row["name"] for row in found if row["error_kind"] == "CrashError"} == bad and [
            row for row in found if row["name"] not in bad
        ] == [row for row in whole if row["name"] not in bad]

    def from_and_to_a_store(self, *, fails: bool, on_cluster: bool = False) -> bool:
        """Score from and to an object store."""
        with _store(self.archive, fails):
            source, place = f"s3://{_BUCKET}/images", f"s3://{_BUCKET}/scored-{len(self.trials)}"
            if not on_cluster:
                return self.same(self.score(place, source))
            with _cluster() as (cluster, _):
                return self.same(self.score(place, source, address=cluster.address))


def _archive(folder: Path, images: int) -> Path:
    """Phantom images, the same bytes under several names where there are many."""
    drawn = make_phantom(folder / "phantom", 0, min(images, _DRAWN) // 2, 2)
    found = sorted((drawn / "train").rglob("*.*"))
    for number in range(images):
        target = folder / "archive" / f"{number // 50:04d}" / f"{number:07d}{found[0].suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(found[number % len(found)], target)
    return folder / "archive"


def _rows(folder: str) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found = []
    for path in sorted(Path(folder).glob("*.parquet")):
        found += pyarrow.parquet.read_table(path, partitioning=None).to_pylist()
    return [{name: value for name, value in row.items() if name not in rows.TIMES} for row in found]


def _as_predict(archive: Path, folder: str) -> bool:
    found = _rows(folder)
    predicted = predict_each(Classifier(), (archive / row["name"] for row in found))
    return all(
        isinstance(prediction, Prediction)
        and row["label"] == prediction.label
        and row["probabilities"] == list(prediction.probabilities.values())
        and row["distance"] == prediction.distance
        for row, prediction in zip(found, predicted, strict=True)
    )


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[Any, dict[str, Any]]]:
    from ray.cluster_utils import Cluster

    with mock.patch.dict(os.environ, {"RAY_AUTH_MODE": "disabled"}):
        cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            nodes = {node.node_id: node for node in [cluster.add_node(num_cpus=1) for _ in range(_NODES - 1)]}
            cluster.wait_for_nodes()
            yield cluster, nodes
        finally:
            cluster.shutdown()


@contextlib.contextmanager
def _store(archive: Path, fails: bool) -> Iterator[None]:
    """An object store with the archive, that fails some requests once it has it."""
    import s3fs
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    disturbed, lots = threading.Event(), np.random.default_rng(0)

    def answer(environment: Any, start: Any) -> Any:
        if disturbed.is_set():
            time.sleep(_LATENCY_S)
            if lots.integers(_FAILS) == 0:
                start("503 Slow Down", [("Content-Type", "application/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
        return application(environment, start)

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    variables = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "NO_PROXY": "127.0.0.1",
    }
    try:
        with mock.patch.dict(os.environ, variables):
            s3fs.S3FileSystem.clear_instance_cache()
            system = s3fs.S3FileSystem()
            system.makedirs(_BUCKET, exist_ok=True)
            for path in archive.rglob("*.*"):
                system.pipe_file(f"{_BUCKET}/images/{path.relative_to(archive).as_posix()}", path.read_bytes())
            s3fs.S3FileSystem.clear_instance_cache()
            if fails:
                disturbed.set()
            yield
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.shutdown()
        thread.join()
        server.server_close()


def _disturb(trials: _Trials, kills: int) -> None:
    trials.add("the run killed at random moments", kills, trials.killed_runs)
    trials.add("workers killed at random moments", kills, trials.killed_workers)
    trials.add("a node of four lost", 1, trials.lost_node)
    trials.add(
        f"an object store that fails one request in {_FAILS} and waits {1000 * _LATENCY_S:.0f} ms", 1,
        lambda: trials.from_and_to_a_store(fails=True),
    )  # fmt: skip
    trials.add("images that end their process", 3, trials.crashing_images)


def main() -> None:
    """Carry out all trials and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--archive", type=Path, help="a folder of images; without it, phantom images are drawn")
    parser.add_argument("--shard-size", type=int, default=200)
    parser.add_argument("--undisturbed", action="store_true", help="only score from and to each place")
    parser.add_argument("--out", type=Path, default=Path("results/scale/faults.json"))
    given = parser.parse_args()
    # Of every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        archive = given.archive or _archive(Path(folder), given.images)
        trials = _Trials(Path(folder), archive, given.kills, given.shard_size)
        trials.add("undisturbed, as predict", 1, trials.undisturbed)
        trials.add("from and to an object store", 1, lambda: trials.from_and_to_a_store(fails=False))
        trials.add(
            "from and to an object store on a cluster of four nodes", 1,
            lambda: trials.from_and_to_a_store(fails=False, on_cluster=True),
        )  # fmt: skip
        if not given.undisturbed:
            _disturb(trials, given.kills)
    record = {"schema_version": 1, "shard_size": given.shard_size, "trials": [asdict(trial) for trial in trials.trials]}
    files.write_text(given.out, json.dumps(record, indent=2) + "\n")
    sys.exit(not all(trial.same for trial in trials.trials))


if __name__ == "__main__":
    main()
