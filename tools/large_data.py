"""What training takes on data that is larger than memory: resident memory, and the time an image.

``python -m tools.large_data FOLDER --images 120000`` draws that many procedural images, trains on them in a process of
its own, and prints the most memory that the process held, with and without pages of mapped files. Then it prints the
time of a training step on images drawn from all of them, relative to steps on a small part. The network is a small one
with as many features as MobileNetV2 unless ``--backbone`` names another: its arithmetic is not what is measured.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge._util import extras
from pneumo_edge._util.cache import CACHE_VARIABLE, LIMIT_VARIABLE, cache_folder
from pneumo_edge._util.progress import bar
from pneumo_edge.backbones import BACKBONES, SIDE, Backbone
from pneumo_edge.data.phantom import MARKER_TEXT
from pneumo_edge.data.sources import PHANTOM_MARKER, open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.training import initial_weights, network
from pneumo_edge.training.fit import trainer, training_images
from pneumo_edge.training.phases import batches, compile_model
from pneumo_edge.training.recipes import RECIPES

_TINY = "tiny"
_SMALL, _STEPS, _ROUNDS = 1000, 20, 7
_TEST_SHARE = 20
_LIMIT = 64 * 10**9


def build_tiny(include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> Any:
    """Build a backbone of one convolution, from (side, side, 3) to 1280 features a place."""
    keras = extras.need("keras", "train")
    image = keras.Input(input_shape)
    reduced = keras.layers.Conv2D(8, 16, 16, activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(1280, 1, activation="relu")(reduced))


def draw(folder: Path, images: int) -> None:
    """Draw a data set of class folders, half of the images of each class, unless it is there."""
    if (folder / PHANTOM_MARKER).exists():
        return
    chunks = [range(start, min(start + 500, images)) for start in range(0, images, 500)]
    with ProcessPoolExecutor() as pool, bar("Drawing images", images) as advance:
        for chunk, _ in zip(chunks, pool.map(_draw, [folder] * len(chunks), chunks), strict=True):
            advance(len(chunk), "")
    (folder / PHANTOM_MARKER).write_text(MARKER_TEXT)


def _draw(folder: Path, numbers: Sequence[int]) -> None:
    for number in numbers:
        rng = np.random.default_rng(number)
        is_ill, split = number % 2, "test" if number // 2 % _TEST_SHARE == 0 else "train"
        coarse = rng.standard_normal((24, 24), dtype=np.float32)
        blobs = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        pixels = np.clip(100 + 30 * is_ill + 40 * blobs, 0, 255).astype(np.uint8)
        name = f"person{number}_virus_{number}.jpeg" if is_ill else f"IM-{number:06d}-0001.jpeg"
        place = folder / split / ("PNEUMONIA" if is_ill else "NORMAL")
        place.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        (place / name).write_bytes(stream.getvalue())


def measure_memory(command: Sequence[str], environment: dict[str, str]) -> tuple[int, int, int]:
    """Run a command and watch it.

    Returns:
        Its exit code, and in bytes the most resident memory without and with pages of mapped files.
    """
    anonymous = resident = 0
    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            fields = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith(" kB")}
            anonymous = max(anonymous, 1024 * int(fields.get("RssAnon", 0)))
            resident = max(resident, 1024 * int(fields.get("VmRSS", 0)))
            time.sleep(0.2)
    return process.returncode, anonymous, resident


def measure_epoch(dataset: Dataset, backbone: Backbone) -> tuple[float, float]:
    """Time the first steps of an epoch on all training images and on a small part of them, by turns.

    Returns:
        Seconds per image on all of them, and on the part: the median of the rounds.
    """
    phase = RECIPES["best"].fine_tune[0]
    images = training_images(dataset, phase)
    weights = initial_weights.RANDOM
    classes = len(dataset.manifest.task.class_names)
    model = trainer(network.build(backbone, weights, 0.0, dataset.rgb(images.indices[:64]), classes), backbone.side)
    compile_model(model, phase, _STEPS)
    rng = np.random.default_rng(0)
    every = np.arange(len(images.indices))
    # Drawn from all: the first ones are of one class.
    part = rng.choice(every, _SMALL, replace=False)

    def turn(number: int, among: npt.NDArray[np.intp]) -> float:
        drawn = rng.choice(among, _STEPS * phase.batch_size, replace=False)
        started = time.perf_counter()
        model.fit(batches(images, drawn, phase.batch_size, (0, number)), epochs=1, shuffle=False, verbose=0)
        return (time.perf_counter() - started) / len(drawn)

    turn(0, part)
    found = [(turn(number, every), turn(number, part)) for number in range(1, _ROUNDS + 1)]
    large, small = np.median(found, axis=0)
    return float(large), float(small)


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="folder for images, cache and run")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--backbone", default=_TINY, choices=[_TINY, *BACKBONES])
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    data, run = given.folder / f"data-{given.images}", given.folder / f"run-{given.images}-{given.backbone}"
    os.environ |= {CACHE_VARIABLE: str(given.folder / "cache"), LIMIT_VARIABLE: str(_LIMIT)}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    row = BACKBONES["mobilenetv2"]
    BACKBONES[_TINY] = Backbone(
        _TINY, "Tiny", f"{__name__ if __name__ != '__main__' else 'tools.large_data'}:build_tiny", row.scaling, None
    )
    if given.train:
        from pneumo_edge import train

        # Epochs beyond the second take no other memory.
        quick = RECIPES["quick"]
        RECIPES["quick"] = replace(quick, head=replace(quick.head, epochs=2, warmup_epochs=0))
        train(data, given.backbone, recipe="quick", out=run)
        return
    draw(data, given.images)
    command = [sys.executable, "-m", "tools.large_data", *sys.argv[1:], "--train"]
    started = time.monotonic()
    code, anonymous, resident = measure_memory(command, dict(os.environ))
    if code:
        sys.exit(code)
    print(
        f"train on {given.images:,} images of {SIDE} pixels: at most {anonymous / 1e9:.2f} GB resident without mapped "
        f"files, {resident / 1e9:.2f} GB with them; {time.monotonic() - started:.0f} s"
    )
    backbone = BACKBONES[given.backbone]
    large, small = measure_epoch(prepare(open_source(data), cache_folder(), SIDE, SIDE), backbone)
    print(f"epoch: {1e3 * large:.2f} ms an image, {1e3 * small:.2f} ms of {_SMALL:,} images: {large / small:.2f} times")


if __name__ == "__main__":
    main()
