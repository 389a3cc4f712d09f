"""Compares the site that runs in the browser with Python on the same machine: ``make browser``.

Images are classified in turns by headless Chromium and by Python, with the same model file. The record is kept in
``results/web/browser.json``; the tables in docs/how-to/web.md follow from it. The images are training images.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import cores, extras, files, records
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.imaging import images
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.web import build
from tools import pages

RESULTS = Path("results", "web", "browser.json")
PAGE = Path("docs", "how-to", "web.md")
_TARGET = "browser"
#: Images of each kind: all originals, and so many of the small ones.
_SMALL, _SEED = 300, 0
#: Of those, how many are timed, in turns with Python.
_TIMED = 60
#: Threads of the page, as far as there are cores; it takes no more than these.
_THREADS = (1, 2, 4)
_WORKER = """async () => {
  const site = await (await fetch("models.json")).json();
  let worker;
  const ask = (kind, argument) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ("result" in data ? resolve(data.result) : reject(new Error(data.error)));
    worker.onerror = reject;
    worker.postMessage({ id: 0, kind, argument });
  });
  const bytes = (file) => Uint8Array.from(atob(file), (each) => each.charCodeAt(0)).buffer;
  // Also one that the page would refuse is measured.
  self.opened = (name, threads) => {
    // A library takes the number of threads when it is loaded, once in a worker.
    worker?.terminate();
    worker = new Worker("worker.js");
    const model = { ...site.models.find((each) => each.name === name), bounds: { mean_difference: 1 } };
    return ask("open", { model, limits: site.limits, threads });
  };
  self.classified = async (file) => {
    const { label, probabilities, timings, total } = await ask("classify", bytes(file));
    return { label, probabilities, timings, total };
  };
  // As text: the way out of the browser is slow for arrays.
  const text = (bytes) => btoa(bytes.reduce((sum, byte) => sum + String.fromCharCode(byte), ""));
  self.resized = async (file) => text((await ask("pixels", bytes(file))).resized.pixels);
}"""


@dataclass(frozen=True)
class Measured:
    """A model in the browser, beside Python with one thread on the same file and images.

    With one thread all images are classified, with several those that are timed. ``check`` is the difference of
    probability that the page finds before use. ``same_decision`` is a share of ``images``; differences are of the
    probability. Times are medians in milliseconds; the ratios are medians over
    images of browser divided by Python.
    """

    model: str
    runtime: str
    threads: int
    check: float
    images: int
    same_decision: float
    mean_difference: float
    max_difference: float
    inference_ms: float
    total_ms: float
    inference_ratio: float
    total_ratio: float


@dataclass(frozen=True)
class Visit:
    """What a first visit with a model loads, and how long it and the next one take until an image can be chosen."""

    model: str
    bytes: int
    first_ms: float
    next_ms: float


@dataclass(frozen=True)
class Compared:
    """The record: the browser, the pixels of the resized images beside Pillow's, each model, and visits.

    ``cores`` are those that could be used, and ``load`` is the mean number of programs that wanted one in the minute
    before; 0 and null where an earlier version did not note them.
    """

    browser: str
    pixel_images: int
    max_pixel_difference: int
    equal_pixels: float
    measured: tuple[Measured, ...]
    visits: tuple[Visit, ...]
    cores: int = 0
    load: float | None = None


def tables(found: Compared) -> str:
    """The Markdown tables of the page."""
    heads = ("Model file", "Runtime", "Check of the page", "Same decision", "Difference of probability, mean (largest)")
    lines = [[*heads, "Inference", "as a multiple of Python", "File to answer", "as a multiple of Python"], ["---"] * 9]
    lines += [
        [
            f"`{each.model}`",
            each.runtime,
            f"{each.check:.2g}{'' if each.check <= build.MEAN_DIFFERENCE else ', refused'}",
            f"{each.same_decision:.1%} of {each.images}",
            f"{each.mean_difference:.1g} ({each.max_difference:.1g})",
            f"{each.inference_ms:.1f} ms",
            f"{each.inference_ratio:.2f}",
            f"{each.total_ms:.1f} ms",
            f"{each.total_ratio:.2f}",
        ]
        for each in found.measured
    ]
    visits = [["Model file", "Loaded by a first visit", "Ready after", "at the next visit"], ["---"] * 4]
    for visit in found.visits:
        size, times = f"{visit.bytes / 1e6:.1f} MB", [f"{ms / 1000:.1f} s" for ms in (visit.first_ms, visit.next_ms)]
        visits.append([f"`{visit.model}`", size, *times])
    return f"{pages.rows(lines)}\n{pages.rows(visits)}"


class _Counting(SimpleHTTPRequestHandler):
    """Serves a folder, and counts the bytes."""

    sent = 0

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        type(self).sent += len(content)
        outputfile.write(content)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Counting, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _chromium() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise PneumoEdgeError("there is no Chromium", "the program chromium", "Run: apt-get install chromium")
    playwright = extras.need("playwright.sync_api", "dev").sync_playwright().start()
    try:
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    finally:
        playwright.stop()


def _images(data: Path) -> list[Path]:
    originals = sorted((data / "chest_xray_original").rglob("*.jp*g"))
    small = sorted((data / "chest_xray_224" / "train").rglob("*.jp*g"))
    return originals + random.Random(_SEED).sample(small, min(_SMALL, len(small)))


def _visit(browser: Any, models: Sequence[str], folder: Path, runtime: Path | None) -> Iterator[Visit]:
    for number, model in enumerate(models):
        site = build.build([model], folder / f"visit-{number}", runtime)
        with _served(site.folder) as url:
            context = browser.new_context()
            times, _Counting.sent = [], 0
            for _ in range(2):
                page, begun = context.new_page(), time.perf_counter()
                page.goto(url)
                page.wait_for_selector("body[data-ready]")
                times.append(1000 * (time.perf_counter() - begun))
                page.close()
                if len(times) == 1:
                    sent = _Counting.sent
            context.close()
        yield Visit(site.models[0], sent, *times)


def _measure(page: Any, model: Path, threads: int, paths: Sequence[Path]) -> Measured:
    classifier = Classifier(model)
    opened = page.evaluate("([name, threads]) => opened(name, threads)", [model.name, threads])
    positions = set(random.Random(_SEED).sample(range(len(paths)), min(_TIMED, len(paths))))
    if threads != _THREADS[0]:
        # The answers of all were compared with one thread.
        paths = [paths[position] for position in sorted(positions)]
        positions = set(range(len(paths)))
    same, differences, browser_times, python_times = 0, [], [], []
    for position, path in enumerate(paths):
        content = path.read_bytes()
        text = base64.b64encode(content).decode()
        for _ in range(2 if position in positions else 1):
            found = page.evaluate("(file) => classified(file)", text)
            expected = classifier.predict(content)
        same += found["label"] == expected.label
        given = list(expected.probabilities.values())
        differences.append(max(abs(one - two) for one, two in zip(found["probabilities"], given, strict=True)))
        if position in positions:
            browser_times.append((found["timings"]["inference"], found["total"]))
            python_times.append((expected.timings.inference, expected.timings.total))
    inference, total = (statistics.median(times) for times in zip(*browser_times, strict=True))
    ratios = np.median(np.array(browser_times) / np.array(python_times), axis=0)
    return Measured(
        model=model.name, runtime=opened["runtime"], threads=threads, check=opened["difference"],
        images=len(paths), same_decision=same / len(paths),
        mean_difference=statistics.fmean(differences), max_difference=max(differences), inference_ms=inference,
        total_ms=total, inference_ratio=float(ratios[0]), total_ratio=float(ratios[1]),
    )  # fmt: skip


def _compare(models: Sequence[str], data: Path, runtime: Path | None) -> Compared:
    paths, load = _images(data), os.getloadavg()[0]
    threads = [each for each in _THREADS if each <= cores.available()]
    with tempfile.TemporaryDirectory() as place, _chromium() as browser:
        folder = Path(place)
        visits = tuple(_visit(browser, models, folder, runtime))
        site = build.build(models, folder / "site", runtime)
        with _served(site.folder) as url:
            page = browser.new_context().new_page()
            page.goto(url)
            page.wait_for_selector("body[data-ready]")
            if not page.evaluate("self.crossOriginIsolated"):
                raise PneumoEdgeError("the page is not isolated", "a page that may use threads", "Look at its headers")
            page.evaluate(_WORKER)
            measured = []
            for model in (Classifier(each).path for each in models):
                for number in threads:
                    measured.append(_measure(page, model, number, paths))
                    print(measured[-1], file=sys.stderr, flush=True)
            size = Classifier(models[-1]).spec.input
            apart = []
            for path in paths:
                content = path.read_bytes()
                found = page.evaluate("(file) => resized(file)", base64.b64encode(content).decode())
                grey = np.frombuffer(base64.b64decode(found), np.uint8).astype(int)
                apart.append(np.abs(grey - images.load(content, size.height, size.width)[..., 0].ravel()))
    pixels = np.concatenate(apart)
    return Compared(
        f"Chromium {browser.version}",
        len(paths),
        int(pixels.max()),
        float((pixels == 0).mean()),
        tuple(measured),
        visits,
        cores.available(),
        load,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure where models are given, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m tools.browser", description=__doc__)
    parser.add_argument(
        "models", nargs="*", help="model files or bundled models; without any, only the page is written"
    )
    parser.add_argument("--data", type=Path, help="folder with chest_xray_original and chest_xray_224")
    parser.add_argument("--runtime", type=Path, help="as for pneumo-edge web")
    given = parser.parse_args(arguments)
    if given.models:
        if given.data is None:
            parser.error("--data is needed to measure")
        files.write_text(RESULTS, records.dumps(_compare(given.models, given.data, given.runtime)))
    pages.put_table(PAGE, _TARGET, tables(records.loads(Compared, RESULTS.read_bytes())))


if __name__ == "__main__":
    try:
        main()
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")
