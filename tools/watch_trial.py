"""Drops many files into a folder that is watched, kills the watch, and counts the verdicts of each file.

``make watch-trial`` runs this module in the repository's root and writes ``results/watch/trial.json``. Its parts can be
run one by one, such as ``make watch-trial OPTIONS="memory --files 100000"``; the others stay as they are in the record.

- trial: four writers drop noise images, some in pieces, some renamed to their place, some closed after each piece.
- latency: what the watch adds to ``Classifier.predict``, from closing a file to the line of its verdict, on a machine
  that does nothing else.
- memory: the memory of one watch over many files, which are links to a few, lie there at once, and stay.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo_edge import Classifier, __version__
from pneumo_edge._util import files

_RESULTS = Path("results/watch/trial.json")
_WRITERS = 4
_PIECE = 4096
#: Files whose latency is measured, and seconds between two of them.
_LATENCY_FILES, _BETWEEN = 200, 0.05
#: Verdicts between two looks at the memory, and files of a folder.
_STEP, _IN_A_FOLDER = 10_000, 1_000


class Writer:
    """Drops files into a folder.

    Args:
        inbox: The folder.
        sources: Images to drop copies of.
        name: How the names of its files begin.
        number: How many files.
        seed: Seed of what it does with each.
    """

    def __init__(self, inbox: Path, sources: Sequence[Path], name: str, number: int, seed: int) -> None:
        self._sources, self._random = [path.read_bytes() for path in sources], random.Random(seed)
        suffixes = [path.suffix for path in sources]
        chosen = [self._random.randrange(len(sources)) for _ in range(number)]
        self._chosen = chosen
        self.names = [
            inbox / f"{name}-{place % 3}" / f"{name}-{place:06}{suffixes[source]}"
            for place, source in enumerate(chosen)
        ]

    def write(self, pause: float = 0.01) -> None:
        """Drop all files.

        Args:
            pause: Mean seconds between two files.
        """
        for path, source in zip(self.names, self._chosen, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._random.choice((self._rename, self._rename, self._at_once, self._slowly, self._in_pieces))(
                path, self._sources[source]
            )
            time.sleep(self._random.uniform(0, 2 * pause))

    def _rename(self, path: Path, data: bytes) -> None:
        part = path.with_name(f".{path.name}.upload")
        part.write_bytes(data)
        part.rename(path)

    def _at_once(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def _slowly(self, path: Path, data: bytes) -> None:
        with path.open("wb") as stream:
            for start in range(0, len(data), _PIECE):
                stream.write(data[start : start + _PIECE])
                stream.flush()
                time.sleep(self._random.uniform(0, 0.02))

    def _in_pieces(self, path: Path, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            with path.open("ab") as stream:
                stream.write(data[start : start + _PIECE])
            time.sleep(self._random.uniform(0, 0.005))


class _Watched:
    """A watch on a folder."""

    def __init__(self, folder: Path, model: str, moves: bool = True) -> None:
        self.inbox, self.done, self.out = folder / "inbox", folder / "done", folder / "results.jsonl"
        self.inbox.mkdir()
        self._log = folder / "log.txt"
        self._command = [sys.executable, "-m", "pneumo_edge", "watch", str(self.inbox), "--out", str(self.out)]
        self._command += [*(["--move", str(self.done)] if moves else []), "--model", model]
        self._counted = self._lines = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def end(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)
        self._process.wait()

    def memory(self, kind: str = "VmRSS") -> int:
        """Resident memory in bytes; with ``VmHWM`` the most that it was."""
        assert self._process
        found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0

    def count(self) -> int:
        """Verdicts so far."""
        if self.out.exists():
            with self.out.open("rb") as stream:
                stream.seek(self._counted)
                whole, end, _ = stream.read().rpartition(b"\n")
            self._counted += len(whole) + len(end)
            self._lines += whole.count(b"\n") + len(end)
        return self._lines

    def wait_for(self, count: int) -> None:
        while self.count() < count:
            assert self._process
            if self._process.poll() is not None:
                raise SystemExit(f"the watch has ended: {self._log.read_text()}")
            time.sleep(0.05)


def trial(folder: Path, sources: Sequence[Path], number: int, kills: int, model: str) -> dict[str, object]:
    """Drop files by several writers and kill the watch meanwhile.

    Args:
        folder: An empty folder.
        sources: Images to drop copies of.
        number: How many files in all.
        kills: How often the watch is killed.
        model: The model.
    """
    watched, chance = _Watched(folder, model), random.Random(0)
    each = number // _WRITERS
    writers = [Writer(watched.inbox, sources, f"writer{seed}", each, seed) for seed in range(_WRITERS)]
    threads = [threading.Thread(target=writer.write, daemon=True) for writer in writers]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    total = each * _WRITERS
    memory: list[tuple[int, int]] = []
    for kill in range(kills):
        watched.wait_for(int(total * (kill + 0.5) / kills))
        memory.append((watched.count(), watched.memory()))
        time.sleep(chance.uniform(0, 0.1))
        watched.end(signal.SIGKILL)
        watched.start()
    # From the last kill on, one process does all the rest.
    watched.wait_for(total)
    for thread in threads:
        thread.join()
    memory.append((watched.count(), watched.memory()))
    time.sleep(2)
    watched.end(signal.SIGTERM)
    counted = Counter(json.loads(line)["source"] for line in watched.out.read_text().splitlines())
    expected = {str(path) for writer in writers for path in writer.names}
    return {
        "files": total,
        "writers": _WRITERS,
        "kills": kills,
        "seconds": round(time.monotonic() - began, 1),
        "missing": len(expected - counted.keys()),
        "more_than_once": sum(count > 1 for count in counted.values()),
        "not_dropped": len(counted.keys() - expected),
        "errors": sum('"error": ' in line for line in watched.out.read_text().splitlines()),
        "left_in_the_folder": sum(path.is_file() for path in watched.inbox.rglob("*")),
        "moved": sum(path.is_file() for path in watched.done.rglob("*")),
        "memory_bytes_by_verdicts": memory,
    }


def latency(folder: Path, sources: Sequence[Path], model: str) -> dict[str, float]:
    """Milliseconds from closing a file to its line, less those of ``Classifier.predict`` on the same file.

    Args:
        folder: An empty folder.
        sources: Images to drop copies of.
        model: The model.
    """
    classifier = Classifier(model)
    watched = _Watched(folder, model)
    time.sleep(3)
    added, alone = [], []
    for number in range(_LATENCY_FILES):
        data, suffix = sources[number % len(sources)].read_bytes(), sources[number % len(sources)].suffix
        began = time.perf_counter()
        classifier.predict(data)
        predicted = time.perf_counter() - began
        (watched.inbox / f"{number}{suffix}").write_bytes(data)
        closed, before = time.perf_counter(), watched.count()
        while watched.count() == before:
            time.sleep(0.0005)
        if number >= _LATENCY_FILES // 10:
            added.append(1e3 * (time.perf_counter() - closed - predicted))
            alone.append(1e3 * predicted)
        time.sleep(_BETWEEN)
    watched.end(signal.SIGTERM)
    return {
        "files": len(added),
        "predict_median_ms": round(float(np.median(alone)), 2),
        "added_median_ms": round(float(np.median(added)), 2),
        "added_p99_ms": round(float(np.percentile(added, 99)), 2),
        "added_most_ms": round(float(max(added)), 2),
    }


def memory(folder: Path, sources: Sequence[Path], number: int, model: str) -> dict[str, object]:
    """The memory of a watch over many files.

    Args:
        folder: An empty folder, on the file system of the sources.
        sources: Images to make links to.
        number: How many files.
        model: The model.
    """
    watched, began = _Watched(folder, model, moves=False), time.monotonic()
    for place in range(number):
        source = sources[place % len(sources)]
        path = watched.inbox / f"{place // _IN_A_FOLDER:04}" / f"{place:07}{source.suffix}"
        path.parent.mkdir(exist_ok=True)
        os.link(source, path)
    found = []
    for count in [*range(_STEP, number, _STEP), number]:
        watched.wait_for(count)
        found.append((watched.count(), watched.memory()))
        print(*found[-1], file=sys.stderr, flush=True)
    most = watched.memory("VmHWM")
    watched.end(signal.SIGTERM)
    counted = Counter(json.loads(line)["source"] for line in watched.out.open())
    return {
        "files": number,
        "seconds": round(time.monotonic() - began, 1),
        "missing": number - len(counted),
        "more_than_once": sum(count > 1 for count in counted.values()),
        "memory_bytes_by_verdicts": found,
        "most_memory_bytes": most,
    }


def make_sources(folder: Path, number: int = 16) -> list[Path]:
    """Draw images of noise, JPEG and PNG."""
    for place in range(number):
        pixels = np.random.default_rng(place).integers(0, 256, (240, 224), np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.{'png' if place % 2 else 'jpeg'}")
    return sorted(folder.iterdir())


def main() -> None:
    """Run parts of the trial and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="latency, trial, memory; by default the first two")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "images").mkdir()
        sources = make_sources(Path(place) / "images")
        parts: dict[str, Callable[[Path], object]] = {
            "latency": lambda folder: latency(folder, sources, given.model),
            "trial": lambda folder: trial(folder, sources, given.files, given.kills, given.model),
            "memory": lambda folder: memory(folder, sources, given.files, given.model),
        }
        if unknown := set(given.parts) - parts.keys():
            parser.error(f"{min(unknown)!r} is not one of {', '.join(parts)}")
        found = json.loads(given.out.read_bytes()) if given.out.exists() else {}
        for name in given.parts or ("latency", "trial"):
            folder = Path(place, name)
            folder.mkdir()
            found[name] = parts[name](folder)
            shutil.rmtree(folder)
            found |= {
                "version": __version__,
                "machine": f"{platform.machine()}, {platform.system()}",
                "model": given.model,
            }
            given.out.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(given.out, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
