"""What scoring an archive costs, as ratios that are measured in one run: ``make scale-benchmark``.

The same images under many names are scored (a list of paths). Parts:

- ``loop``: the bare loop, reading a file and :meth:`pneumo_edge.Classifier.predict`, and one worker, in turns. The
  worker's time is that of its tasks, with the plan read and the Parquet files written, and without its start.
- ``workers``: one worker and two, in turns; the time is that of the whole call.
- ``ray``: two local workers and two actors of Ray on the same machine, in turns; the time is that of the whole call,
  without the start of Ray. Where Ray is not installed there is no value.
- ``ray-data``: two actors of Ray, and a pipeline of Ray Data that two actors classify in, in turns; as for ``ray``.
- ``memory``: resident memory of driver and workers with few and with many images.
- ``listing``: time, memory beyond that of the interpreter, and bytes of the plan for a list of names.
- ``store``: how much of its time a worker decodes and computes while it reads large images from a server that answers
  after 20 ms, and from the disk. Without fsspec and aiohttp, from the disk alone.

A part is kept in ``results/scale/NAME.json`` with the machine and its load, and can be made alone.
``docs/archive-cost.md`` is computed from the records.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from pneumo_edge import Classifier, bundled
from pneumo_edge._util import extras, files, processor, records
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import rows
from pneumo_edge.scale.cluster import LOCAL, connected
from tools import pages

RESULTS = Path("results", "scale")
PAGE = Path("docs", "archive-cost.md")
#: Different files of which the names are.
_FILES = 20
_LATENCY = 0.02
#: Side of a large image in pixels; with its noise it has about a megabyte.
_LARGE_SIDE = 1500
_POLL = 0.05
#: What the page is about.
_ARCHIVE, _SHARD = 10**8, 1000


@dataclass(frozen=True)
class Run:
    """One call, in a process of its own.

    Attributes:
        images: How many were classified.
        seconds: Wall time, without the start of the interpreter.
        worker_seconds: Wall time of all tasks of the workers; 0 for the bare loop.
        driver_cpu: CPU seconds of the process itself.
        driver_memory: The most resident memory of the process, bytes.
        worker_memory: The same of its largest worker; 0 without one.
        written: Bytes of the files of the shards.
    """

    images: int
    seconds: float
    worker_seconds: float
    driver_cpu: float
    driver_memory: int
    worker_memory: int
    written: int


@dataclass(frozen=True)
class Record:
    """A part as it was measured.

    Attributes:
        part: Its name.
        processor: The kind of processor, with the number of cores.
        load: Load average of the machine when it ended, over a minute.
        model: The model file.
        image_bytes: Bytes of an image, on average.
        runs: The calls, by what was done, in the order in which they were made.
        values: Other numbers.
    """

    part: str
    processor: str
    load: float
    model: str
    image_bytes: float
    runs: dict[str, tuple[Run, ...]]
    values: dict[str, float]


def write_list(target: Path, paths: Sequence[str], names: int) -> Path:
    """Write a list of so many lines that repeats paths."""
    target.write_text("".join(f"{paths[number % len(paths)]}\n" for number in range(names)), encoding="utf-8")
    return target


def _bare(names: Path, model: str) -> Run:
    """The bare loop over a list."""
    classifier = Classifier(model)
    paths = names.read_text(encoding="utf-8").splitlines()
    began, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        classifier.predict(Path(path).read_bytes())
    taken = time.perf_counter() - began
    return Run(len(paths), taken, 0.0, time.process_time() - cpu, _own_memory(), 0, 0)


def _score(names: Path, out: Path, model: str, workers: int, shard_size: int, address: str | None = None) -> Run:
    """Score a list, on a cluster if there is an address."""
    from pneumo_edge import score

    with _ChildWatch() as children, connected(address) if address else nullcontext():
        began, cpu = time.perf_counter(), time.process_time()
        found = score(
            names, out, model=model, workers=workers, shard_size=shard_size, address=address, tell=lambda line: None
        )
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu - children.own_cpu
    if found.manifest.errors:
        raise SystemExit(f"error: some images were not classified: {found.manifest.errors}")
    written = sum(path.stat().st_size for path in Path(found.folder).glob("*.parquet"))
    return Run(found.images, taken, found.manifest.worker_seconds, cpu, _own_memory(), children.largest, written)


class _Classify:
    """What an actor of Ray Data does with a batch of names."""

    def __init__(self, model: str) -> None:
        self._classifier = Classifier(model)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        found = []
        for name in batch["name"]:
            began = time.perf_counter_ns()
            data = Path(name).read_bytes()
            read_ms = (time.perf_counter_ns() - began) / 1e6
            found.append(rows.classified(str(name), 0, None, read_ms, self._classifier.predict(data)))
        return {column: [row[column] for row in found] for column in found[0] if found[0][column] is not None}


def _ray_data(names: Path, out: Path, model: str, workers: int, shard_size: int) -> Run:
    """Classify a list with Ray Data, into one Parquet file for each shard."""
    data, arrow = extras.need("ray.data", "scale"), extras.need("pyarrow", "scale")
    with _ChildWatch() as children, connected(LOCAL):
        began, cpu = time.perf_counter(), time.process_time()
        paths = names.read_text(encoding="utf-8").splitlines()
        shards = [
            arrow.table({"name": paths[first : first + shard_size]}) for first in range(0, len(paths), shard_size)
        ]
        actors = data.ActorPoolStrategy(size=workers)
        # The actors take all cores: what else is to run must take none.
        data.from_arrow(shards).map_batches(
            _Classify, fn_constructor_args=(model,), batch_size=shard_size, compute=actors, num_cpus=1
        ).write_parquet(str(out), ray_remote_args={"num_cpus": 0})
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu
    written = sum(path.stat().st_size for path in out.glob("*.parquet"))
    return Run(len(paths), taken, 0.0, cpu - children.own_cpu, _own_memory(), children.largest, written)


def _plan(names: Path, out: Path, shard_size: int) -> Run:
    """List the names into a plan."""
    from pneumo_edge.scale import listing, plan

    before = _own_memory()
    began, cpu = time.perf_counter(), time.process_time()
    made = plan.make(str(out), listing.open_source(str(names)), shard_size, lambda images: None)
    taken, cpu = time.perf_counter() - began, time.process_time() - cpu
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Run(made.images, taken, 0.0, cpu, _own_memory() - before, 0, written)


def _own_memory() -> int:
    # Not ru_maxrss: a process begins with that of the one that started it.
    return _most_resident("self")


class _ChildWatch:
    """Watches the child processes of this one.

    Attributes:
        largest: The most resident memory of any, in bytes.
        own_cpu: CPU seconds that watching took.
    """

    def __init__(self) -> None:
        self.largest, self.own_cpu = 0, 0.0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _ChildWatch:
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL):
            self.largest = max(self.largest, *map(_most_resident, _children()), 0)
            self.own_cpu = time.thread_time()


def _children() -> list[str]:
    try:
        lists = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    except OSError:
        return []
    # Until it runs its own program, a child has the memory of this process.
    return [child for each in lists for child in each if _command(child) != _command("self")]


def _command(process: str) -> bytes:
    try:
        return Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return b""


def _most_resident(process: str) -> int:
    try:
        status = Path("/proc", process, "status").read_text()
    except OSError:
        return 0
    fields = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith(" kB")}
    return 1024 * int(fields.get("VmHWM", 0))


def _call(*words: object) -> Run:
    """Carry out one of the calls above in a process of its own."""
    command = [sys.executable, "-m", "tools.scale_benchmark", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return records.loads(Run, done.stdout)


class Bench:
    """The parts, with a folder for what they write.

    Args:
        folder: A folder that is empty.
        model: A bundled model, or the path of a model file.
        images: Images of a call.
        rounds: How often calls take turns.
        names: Names of the list that is listed.
        shard_size: Images of a shard.
    """

    def __init__(self, folder: Path, model: str, images: int, rounds: int, names: int, shard_size: int) -> None:
        self._folder, self._model, self._images, self._rounds = folder, model, images, rounds
        self._names, self._shard_size = names, shard_size
        made = make_phantom(folder / "phantom", 0, _FILES // 2, 1)
        self._paths = sorted(str(path) for path in (made / "train").rglob("*.jpeg"))
        self._calls = 0

    def loop(self) -> Record:
        """The bare loop and one worker."""
        names = self._list(self._images)
        both = [(_call("bare", names, self._model), self._scored(names, 1)) for _ in range(self._rounds)]
        runs = {"bare loop": tuple(bare for bare, _ in both), "one worker": tuple(scored for _, scored in both)}
        ratio = median(bare.seconds / scored.worker_seconds for bare, scored in both)
        return self._record("loop", runs, {"ratio": ratio})

    def workers(self) -> Record:
        """One worker and two."""
        names = self._list(self._images)
        both = [(self._scored(names, 1), self._scored(names, 2)) for _ in range(self._rounds)]
        runs = {"one worker": tuple(one for one, _ in both), "two workers": tuple(two for _, two in both)}
        return self._record("workers", runs, {"ratio": median(one.seconds / two.seconds for one, two in both)})

    def ray(self) -> Record:
        """Two workers of this machine, and two actors on it."""
        if not extras.is_installed("ray"):
            return self._record("ray", {}, {})
        names = self._list(self._images)
        both = [(self._scored(names, 2), self._scored(names, 2, LOCAL)) for _ in range(self._rounds)]
        runs = {"two workers": tuple(two for two, _ in both), "two actors": tuple(actors for _, actors in both)}
        return self._record("ray", runs, {"ratio": median(two.seconds / actors.seconds for two, actors in both)})

    def ray_data(self) -> Record:
        """Two actors on this machine, and the same by Ray Data."""
        if not extras.is_installed("ray"):
            return self._record("ray-data", {}, {})
        names = self._list(self._images)
        both = [
            (
                self._scored(names, 2, LOCAL),
                _call("pipeline", names, self._out(), self._model, 2, self._shard_size),
            )
            for _ in range(self._rounds)
        ]
        runs = {"two actors": tuple(actors for actors, _ in both), "Ray Data": tuple(data for _, data in both)}
        ratio = median(data.seconds / actors.seconds for actors, data in both)
        return self._record("ray-data", runs, {"ratio": ratio})

    def memory(self) -> Record:
        """Few images and ten times as many."""
        few = self._scored(self._list(self._images), 2)
        many = self._scored(self._list(10 * self._images), 2)
        values = {
            "driver": many.driver_memory / few.driver_memory,
            "worker": many.worker_memory / few.worker_memory,
            "driver_cpu_per_shard": (many.driver_cpu - few.driver_cpu) * self._shard_size / (9 * self._images),
        }
        return self._record("memory", {"few": (few,), "many": (many,)}, values)

    def listing(self) -> Record:
        """A list of names into a plan."""
        run = _call("plan", self._list(self._names), self._out(), self._shard_size)
        values = {
            "names_a_second": run.images / run.seconds,
            "names_a_cpu_second": run.images / run.driver_cpu,
            "cpu_seconds_a_million": 1e6 * run.driver_cpu / run.images,
            "megabytes": run.driver_memory / 1e6,
            "bytes_a_name": run.written / run.images,
        }
        return self._record("listing", {"plan": (run,)}, values)

    def store(self) -> Record:
        """Large images from a server that answers late, and the same from the disk."""
        large = self._folder / "large.jpeg"
        large.write_bytes(large_image())
        names = write_list(self._folder / "large.txt", [str(large)], self._images)
        disk = self._scored(names, 1)
        runs = {"from the disk": (disk,), "bare loop": (_call("bare", names, self._model),)}
        values = {"busy_from_disk": self._busy() / disk.worker_seconds}
        if all(map(extras.is_installed, ("fsspec", "aiohttp"))):
            with _server(large.read_bytes()) as address:
                urls = [f"{address}/{number}.jpeg" for number in range(_FILES)]
                late = self._scored(write_list(self._folder / "urls.txt", urls, self._images), 1)
            runs["from the server"] = (late,)
            values["busy"] = self._busy() / late.worker_seconds
        return self._record("store", runs, values, image_bytes=large.stat().st_size)

    def _list(self, names: int) -> Path:
        return write_list(self._folder / f"{names}.txt", self._paths, names)

    def _out(self) -> Path:
        self._calls += 1
        return self._folder / f"out{self._calls}"

    def _scored(self, names: Path, workers: int, *address: str) -> Run:
        return _call("score", names, self._out(), self._model, workers, self._shard_size, *address)

    def _busy(self) -> float:
        """Seconds of decoding and inference in the last data set."""
        parquet = extras.need("pyarrow.parquet", "parquet")
        (folder,) = (self._folder / f"out{self._calls}").glob("model=*")
        total = 0.0
        for path in folder.glob("*.parquet"):
            table = parquet.read_table(path, columns=["decode_ms", "inference_ms"])
            total += sum(float(np.sum(table.column(name).to_numpy())) for name in table.column_names)
        return total / 1000

    def _record(
        self, part: str, runs: Mapping[str, tuple[Run, ...]], values: dict[str, float], image_bytes: float = 0.0
    ) -> Record:
        kind = f"{processor.kind()}, {os.cpu_count()} cores"
        size = image_bytes or float(np.mean([Path(path).stat().st_size for path in self._paths]))
        name = PredictorIdentity.of(Classifier(self._model)).model
        return Record(part, kind, round(os.getloadavg()[0], 1), name, size, dict(runs), values)


def large_image() -> bytes:
    """A JPEG of about a megabyte, as original X-rays have."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.normal(128, 40, (64, 64)).clip(0, 255).astype(np.uint8))
    smooth = np.asarray(coarse.resize((_LARGE_SIDE, _LARGE_SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = random.normal(0, 12, smooth.shape)
    stream = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
    return stream.getvalue()


@contextmanager
def _server(content: bytes) -> Iterator[str]:
    """A server on loopback that sends the same bytes for every path, after a while."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            time.sleep(_LATENCY)
            self._begin()

        def do_GET(self) -> None:
            time.sleep(_LATENCY)
            self._begin()
            self.wfile.write(content)

        def _begin(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def cost(found: Mapping[str, Record]) -> str:
    """What 10^8 images cost, from the records: Markdown."""
    plan, per_shard = found["listing"].values, found["memory"].values["driver_cpu_per_shard"]
    row = median(run.written / run.images for run in found["loop"].runs["one worker"])
    # CPU time, because the wall time of a busy machine is mostly that of others.
    kinds = [
        (found[part].image_bytes, median(run.driver_cpu / run.images for run in found[part].runs["bare loop"]))
        for part in ("loop", "store")
    ]
    shards = _ARCHIVE / _SHARD
    heading = ("10^8 images of", *(f"{size / 1e3:,.0f} kB" for size, _ in kinds))
    totals = [
        ("CPU time of an image", *(f"{1000 * seconds:.1f} ms" for _, seconds in kinds)),
        ("core-hours", *(f"{_ARCHIVE * seconds / 3600:,.0f}" for _, seconds in kinds)),
        ("bytes read", *(f"{_ARCHIVE * size / 1e12:,.1f} TB" for size, _ in kinds)),
        ("bytes written", *2 * (f"{_ARCHIVE * row / 1e9:,.1f} GB",)),
        ("requests to read images", *2 * (f"{_ARCHIVE:,}",)),
        ("requests to write results", *2 * (f"{shards:,.0f}",)),
        ("plan: time on one core", *2 * (f"{plan['cpu_seconds_a_million'] * _ARCHIVE / 1e6 / 60:,.0f} min",)),
        ("plan: bytes", *2 * (f"{plan['bytes_a_name'] * _ARCHIVE / 1e9:,.1f} GB",)),
        ("driver: CPU time for all shards", *2 * (f"{per_shard * shards / 60:,.0f} min",)),
    ]
    text = pages.rows([heading, ("---", *2 * ("---:",)), *totals])
    scaled: list[Sequence[str]] = []
    scaled.append(("cores", "images of", "hours", "images/s", "read from the store", "cores of the driver"))
    scaled.append(("---:",) * len(scaled[0]))
    for cores in (10, 100, 1000):
        for size, seconds in kinds:
            rate = cores / seconds
            scaled.append(
                (
                    f"{cores:,}",
                    f"{size / 1e3:,.0f} kB",
                    f"{_ARCHIVE / rate / 3600:,.1f}",
                    f"{rate:,.0f}",
                    f"{rate * size / 1e9:,.2f} GB/s",
                    f"{per_shard * rate / _SHARD:.2f}",
                )
            )
    return "\n".join((text, pages.rows(scaled), "Ratios and other measurements:\n", pages.rows(_ratios(found))))


def _ratios(found: Mapping[str, Record]) -> Iterator[Sequence[str]]:
    """Rows of a table: what was measured, the goal, and the load of the machine then."""
    yield "measured", "value", "goal", "load average"
    yield "---", "---:", "---:", "---:"
    for part, name, what, goal in _GOALS:
        if part in found and (value := found[part].values.get(name)) is not None:
            yield what, f"{value:,.0f}" if value > _MANY else f"{value:.2f}", goal, f"{found[part].load:.1f}"


#: Part, value, what it is in words, and its goal.
_GOALS = (
    ("loop", "ratio", "images a second, one worker over the bare loop", "0.95"),
    ("workers", "ratio", "images a second, two workers over one", "1.80"),
    ("ray", "ratio", "images a second, two actors of Ray over two local workers", "0.90"),
    ("ray-data", "ratio", "images a second, two actors of Ray over Ray Data with two actors", "none"),
    ("memory", "driver", "memory of the driver, ten times as many images", "at most 1.05"),
    ("memory", "worker", "memory of a worker, ten times as many images", "at most 1.05"),
    ("listing", "names_a_second", "names a second from a list", "100,000"),
    ("listing", "names_a_cpu_second", "the same for a second of CPU time", "100,000"),
    ("listing", "megabytes", "megabytes of memory that listing takes", "none"),
    ("store", "busy_from_disk", "share of a worker's time that is decoding and inference, from the disk", "none"),
    ("store", "busy", "the same from a server that answers after 20 ms", "0.85"),
)
_MANY = 100
#: Parts without which there is no page.
_COSTS = ("loop", "memory", "listing", "store")


def read() -> dict[str, Record]:
    """The records of all parts that were measured."""
    kept = {part: RESULTS / f"{part}.json" for part in PARTS}
    return {part: records.loads(Record, path.read_bytes()) for part, path in kept.items() if path.exists()}


PARTS: dict[str, Callable[[Bench], Record]] = {
    "loop": Bench.loop,
    "workers": Bench.workers,
    "ray": Bench.ray,
    "ray-data": Bench.ray_data,
    "memory": Bench.memory,
    "listing": Bench.listing,
    "store": Bench.store,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure parts, and put the cost of large archives into the page."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    calls: dict[str, Callable[..., Run]] = {
        "bare": lambda names, model: _bare(Path(names), model),
        "score": lambda names, out, model, workers, shard_size, *address: _score(
            Path(names), Path(out), model, int(workers), int(shard_size), *address
        ),
        "pipeline": lambda names, out, model, workers, shard_size: _ray_data(
            Path(names), Path(out), model, int(workers), int(shard_size)
        ),
        "plan": lambda names, out, shard_size: _plan(Path(names), Path(out), int(shard_size)),
    }
    if words and words[0] in calls:
        print(json.dumps(asdict(calls[words[0]](*words[1:]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; by default all")
    parser.add_argument("--model", default=bundled.DEFAULT)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, default=1000)
    chosen = parser.parse_args(words)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"{min(unknown)!r} is none of {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder, "work"), chosen.model, chosen.images, chosen.rounds, chosen.names, chosen.shard_size)
        for part in chosen.parts or PARTS:
            record = PARTS[part](bench)
            files.write_text(RESULTS / f"{part}.json", records.document(record))
            print(part, *(f"{name} {value:.4g}" for name, value in record.values.items()), flush=True)
    if missing := [part for part in _COSTS if not (RESULTS / f"{part}.json").exists()]:
        print(f"{PAGE} is not written: it takes {', '.join(missing)}, too")
        return 0
    pages.put_table(PAGE, "scale-benchmark", cost(read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
