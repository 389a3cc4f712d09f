"""Builds a static site that classifies chest X-rays in the browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from pneumo_edge import __version__
from pneumo_edge._util import files, records
from pneumo_edge._util.assets import ASSETS, page
from pneumo_edge.errors import ArgumentError, ModelFileError
from pneumo_edge.imaging import heatmap, images
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.spec import PROBABILITY
from pneumo_edge.web import runtimes

_PAGE = Path(__file__).with_name("site")
_MODELS, _LIST, _SITE = "models", "models.json", "site.js"
#: The page refuses a runtime whose probabilities differ by more from those of Python, as a mean over the cases. One at
#: 0.0024 made another decision on 3 of 420 images; all others were below 1e-6 (make browser).
MEAN_DIFFERENCE = 0.002
#: The pictures that a page is compared with: so many, of so many that are drawn, and their sides in pixels.
_CASES, _DRAWN, _SIDES = 8, 64, (4, 8, 16, 32)
_SEED = 0
_POLICY = {
    "default-src": "'none'", "script-src": "'self' 'wasm-unsafe-eval'", "worker-src": "'self'", "connect-src": "'self'",
    "style-src": "'self'", "img-src": "'self'", "manifest-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
}  # fmt: skip
#: Only an isolated page may use several threads. The service worker sends these, and hosts that read ``_headers``.
_HEADERS = {
    # A page cannot forbid in itself that another one frames it.
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items())
    + "; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Site:
    """A site that was built: its folder, the names of its models, and its bytes."""

    folder: Path
    models: tuple[str, ...]
    size: int


def build(
    models: Sequence[str | os.PathLike[str]],
    out: Path,
    runtime: Path | None = None,
    opened: Callable[[Classifier], None] = lambda _: None,
) -> Site:
    """Build a site.

    The folder gets its name when it is complete. Any static web server can serve it. A site that was built there before
    is replaced.

    Args:
        models: Names of bundled models, or paths of ``.tflite`` or ``.onnx`` files with a ModelSpec. A visitor begins
            with the first.
        out: The folder.
        runtime: A folder ``node_modules`` with the WebAssembly runtimes; by default npm fetches them.
        opened: Called with each model when it is open.

    Raises:
        ArgumentError: ``out`` has other files, or two models have the same name.
        ModelFileError: A model cannot be read, or does not run in the browser.
        MissingExtraError: No engine for a model is installed.
        InstallationError: The runtimes cannot be had.
        OSError: The folder cannot be written.
    """
    check_target(out)
    classifiers = [Classifier(model) for model in models]
    _check_names([classifier.path for classifier in classifiers])
    for classifier in classifiers:
        opened(classifier)
    entries = [_describe(classifier) for classifier in classifiers]
    modules = runtimes.find(runtime)
    with files.whole_folder(out) as folder:
        (folder / _MODELS).mkdir()
        for classifier in classifiers:
            shutil.copyfile(classifier.path, folder / _MODELS / classifier.path.name)
        runtimes.copy(modules, {classifier.path.suffix for classifier in classifiers}, folder / "runtime")
        # Where one of the models is of other images, the page that they share is for images.
        words = {classifier.spec.task.image for classifier in classifiers}
        _write_page(folder, entries, words.pop() if len(words) == 1 else "image")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Site(out, tuple(entry["name"] for entry in entries), size)


def check_target(out: Path) -> None:
    """Refuse a folder that a site must not replace.

    Raises:
        ArgumentError: It is a file, or has files in it that are not those of a site.
    """
    if out.is_dir() and ((out / _SITE).is_file() or not any(out.iterdir())):
        return
    if os.path.lexists(out):
        state = "a folder with other files in it" if out.is_dir() else "a file"
        raise ArgumentError(f"{out} is {state}", "a new or empty folder, or an older site", "Give another path")


def _check_names(paths: Sequence[Path]) -> None:
    names = [path.name for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ArgumentError(
            f"two models have the file name {twice[0]}", "a name for each", "Rename one, or leave it out"
        )


def _describe(classifier: Classifier) -> dict[str, Any]:
    """The entry of a model in ``models.json``."""
    path, spec = classifier.path, classifier.spec
    row = runtimes.RUNTIMES[path.suffix]
    outputs = engines.load_any(path, engines.choose(path, classifier.engine.name)).outputs
    types = {output.dtype for output in outputs}
    if spec.input.dtype not in row.dtypes or types != {"float32"}:
        raise ModelFileError(
            f"{path} takes {spec.input.dtype} and gives {' and '.join(sorted(types))}",
            f"a model that takes {' or '.join(row.dtypes)} and gives float32, as {row.name} for browsers needs it",
            "Export it with pneumo-edge, or convert it with float inputs and outputs",
        )
    return {
        "name": path.name,
        "file": f"{_MODELS}/{quote(os.fsencode(path.name))}",
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
        "runtime": row.name,
        "outputs": [PROBABILITY, *classifier.engine.other_shapes],
        "spec": json.loads(records.dumps(spec)),
        "training": spec.data_remark,
        "bounds": {"mean_difference": MEAN_DIFFERENCE},
        "cases": _cases(classifier),
    }


def _cases(classifier: Classifier) -> list[dict[str, Any]]:
    """Pictures with the probabilities that Python gives for them, as far apart as can be.

    Each is a small grid of random grey values, which both sides enlarge to the size of the model's input.
    """
    random, size = np.random.default_rng(_SEED), classifier.spec.input
    drawn = []
    for number in range(_DRAWN):
        side = _SIDES[number % len(_SIDES)]
        low, high = sorted(random.integers(0, 256, 2))
        grid = random.integers(low, high + 1, (side, side)).astype(np.uint8)
        grey = images.resize(Image.fromarray(grid), size.height, size.width, size.resize_filter)
        drawn.append((grid, list(classifier.predict(grey).probabilities.values())))
    levels = np.array([probabilities[-1] for _, probabilities in drawn])
    chosen: list[int] = []
    for level in np.linspace(levels.min(), levels.max(), _CASES):
        nearest = np.argsort(np.abs(levels - level), kind="stable").tolist()
        chosen.append(next(index for index in nearest if index not in chosen))
    return [
        {"side": len(grid), "grey": base64.b64encode(grid.tobytes()).decode(), "probabilities": probabilities}
        for grid, probabilities in (drawn[index] for index in chosen)
    ]


def _write_page(folder: Path, entries: list[dict[str, Any]], image: str) -> None:
    for path in (*_PAGE.iterdir(), *ASSETS.iterdir()):
        if path.suffix in (".js", ".css", ".svg"):
            shutil.copyfile(path, folder / path.name)
    policy = "; ".join(f"{name} {value}" for name, value in _POLICY.items())
    head, before, after = (
        (_PAGE / name).read_text(encoding="utf-8").rstrip() for name in ("head.html", "before.html", "after.html")
    )
    text = page(
        title="pneumo-edge in the browser",
        head=Template(head).substitute(policy=policy),
        script="app.js",
        where="in this browser",
        image=image,
        without_script="",
        before=before,
        drop="inert",
        accept=".jpg,.jpeg,.png,.dcm,.dicom,image/jpeg,image/png",
        kinds="JPEG, PNG or uncompressed DICOM. The image stays in this page: it is not sent or stored.",
        # The script replaces it, which browsers do not run from a file.
        status="Loading ... This page works from a web server, not as a file that is opened.",
        picture=f'<canvas id="picture" role="img" aria-label="The classified {image}"></canvas>',
        after=after,
    )
    (folder / "index.html").write_text(text, encoding="utf-8")
    _write_json(folder / _LIST, {
        "version": __version__,
        "limits": {
            "bytes": images.MAX_BYTES, "pixels": images.MAX_PIXELS, "side": images.MIN_SIDE, "scans": images.MOST_SCANS,
        },
        "heatmap": {
            "full": heatmap.FULL, "colours": heatmap.colours().tolist(), "opacities": heatmap.opacities().tolist(),
        },
        "models": entries,
    })  # fmt: skip
    _write_json(folder / "manifest.webmanifest", {
        "name": "pneumo-edge", "start_url": "./", "display": "standalone",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    })  # fmt: skip
    headers = "\n".join(f"  {name}: {value}" for name, value in _HEADERS.items())
    (folder / "_headers").write_text(f"/*\n{headers}\n", encoding="utf-8")
    core = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in ("sw.js", "_headers"))
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)} {files.sha256(path)}\n".encode())
    site = {"version": digest.hexdigest()[:16], "files": core, "headers": _HEADERS}
    (folder / _SITE).write_text(f"self.SITE = {json.dumps(site, indent=2)};\n", encoding="utf-8")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
