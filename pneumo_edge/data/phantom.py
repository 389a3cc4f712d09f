"""Phantom: procedural pictures in the style of chest X-rays, for a machine without data.

They serve to try and test the whole pipeline. Nothing medical can be learnt from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pneumo_edge._util import files
from pneumo_edge._util.progress import bar
from pneumo_edge.data.sources import PHANTOM_MARKER
from pneumo_edge.errors import DataError
from pneumo_edge.task import PNEUMONIA

MARKER_TEXT = (
    "The images in this folder are procedural drawings (pneumo-edge data phantom): they are no X-rays, show no "
    "patients, and say nothing about how well a model would do on X-rays.\n"
)
STAMP = "PHANTOM"

#: As in the Kermany et al. data: most patients have one or two images, a few have more.
_IMAGES_OF_A_PATIENT = (1, 1, 1, 2, 2, 4)

_Field = npt.NDArray[np.float32]


def make_phantom(target: Path, seed: int, train_per_class: int, test_per_class: int) -> Path:
    """Write a folder of procedural images in the layout and with the file names of the Kermany data set.

    The same arguments give the same bytes with the same versions of numpy and Pillow. The folder
    gets its name only when it is complete.

    Args:
        target: The folder to create; an existing phantom is replaced.
        seed: Chooses the patients, at least 0.
        train_per_class: Training images of each class.
        test_per_class: Test images of each class.

    Returns:
        ``target``.

    Raises:
        DataError: ``target`` contains something other than a phantom.
        OSError: The folder cannot be written.
    """
    _check_target(target)
    numbers = {"train": train_per_class, "test": test_per_class}
    total = len(PNEUMONIA.class_names) * sum(numbers.values())
    with files.whole_folder(target) as folder, bar("Drawing phantom images", total) as advance:
        patient = 0
        for split, per_class in numbers.items():
            for class_name in PNEUMONIA.class_names:
                place = folder / split / class_name
                place.mkdir(parents=True)
                drawn = 0
                while drawn < per_class:
                    patient += 1
                    rng = np.random.default_rng((seed, patient))
                    anatomy = _Anatomy.of(rng)
                    kind = str(rng.choice(("bacteria", "virus"))) if class_name == PNEUMONIA.positive_class else ""
                    for number in range(1, min(int(rng.choice(_IMAGES_OF_A_PATIENT)), per_class - drawn) + 1):
                        drawn += 1
                        name = f"person{patient}_{kind}_{drawn}" if kind else f"IM-{patient:04d}-{number:04d}"
                        quality = int(rng.integers(80, 96))
                        _draw(anatomy, kind, rng).save(place / f"{name}.jpeg", quality=quality)
                        advance(1, "")
        (folder / PHANTOM_MARKER).write_text(MARKER_TEXT, encoding="utf-8")
    return target


def _check_target(target: Path) -> None:
    if target.is_dir():
        if (target / PHANTOM_MARKER).exists() or not any(target.iterdir()):
            return
        state = "is a folder with other files in it"
    elif target.exists():
        state = "is a file"
    else:
        return
    raise DataError(f"{target} {state}", "a new or empty folder, or an older phantom", "Give another path")


@dataclass(frozen=True)
class _Anatomy:
    """The anatomy of a patient, in units of half the picture's height; y grows downwards."""

    chest: float
    lung_width: float
    lung_top: float
    diaphragm: float
    heart_size: float
    heart_side: float
    rib_spacing: float
    rib_slope: float
    spine_width: float

    @staticmethod
    def of(rng: np.random.Generator) -> _Anatomy:
        return _Anatomy(
            chest=rng.uniform(0.82, 0.98),
            lung_width=rng.uniform(0.29, 0.36),
            lung_top=rng.uniform(-0.78, -0.66),
            diaphragm=rng.uniform(0.42, 0.62),
            heart_size=rng.uniform(0.27, 0.36),
            heart_side=rng.uniform(0.08, 0.18),
            rib_spacing=rng.uniform(0.15, 0.19),
            rib_slope=rng.uniform(0.15, 0.45),
            spine_width=rng.uniform(0.07, 0.10),
        )


def _draw(anatomy: _Anatomy, kind: str, rng: np.random.Generator) -> Image.Image:
    """Draw one picture of a patient: first the attenuation, then the exposure of the film."""
    height = int(rng.integers(220, 301))
    width = int(height * rng.uniform(1.05, 1.4))
    x, y = _grid(height, width, rng)
    attenuation, lungs = _thorax(anatomy, x, y, rng)
    if kind:
        attenuation += _opacities(kind, lungs, x, y, rng)
    return _stamp(_expose(attenuation, rng))


def _grid(height: int, width: int, rng: np.random.Generator) -> tuple[_Field, _Field]:
    """Return the coordinates of every pixel, for a patient who is off centre, slightly rotated, near or far."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (columns - width / 2) / (height / 2), (rows - height / 2) / (height / 2)
    x, y = x - np.float32(rng.normal(0, 0.05)), y - np.float32(rng.normal(0, 0.05))
    angle, zoom = math.radians(rng.normal(0, 2)), rng.uniform(0.9, 1.12)
    cos, sin = np.float32(math.cos(angle) * zoom), np.float32(math.sin(angle) * zoom)
    return cos * x - sin * y, sin * x + cos * y


def _thorax(anatomy: _Anatomy, x: _Field, y: _Field, rng: np.random.Generator) -> tuple[_Field, _Field]:
    """Draw a healthy chest: attenuation from about 0 to 1, and the share of lung in each pixel, 0 to 1."""
    a = anatomy
    side = np.abs(x)
    shoulders = a.chest + 0.35 * _step(-y - 0.62, 0.08)
    slope = np.clip(side - 0.26, 0, 0.5)
    body = _step(shoulders - side + 0.05 * y, 0.02) * _step(y + 1.08 - 0.75 * slope, 0.02)
    body = np.maximum(body, _step(0.26 - side, 0.02) * _step(-y - 0.5, 0.1))

    # The right dome of the diaphragm, on the left of the picture, is a little higher.
    dome = a.diaphragm + np.where(x < 0, np.float32(-0.06), np.float32(0)) + 0.55 * (side - 0.42) ** 2
    centre = 0.42 + 0.06 * y
    oval = 1 - ((side - centre) / a.lung_width) ** 2 - (np.minimum(y - 0.1, 0) / (a.lung_top - 0.1)) ** 2
    lungs = _step(oval, 0.06) * _step(dome - y, 0.015)
    across, along = x - a.heart_side - 0.3 * (y - 0.2), (y - 0.2) / 1.35
    heart = _step(1 - (across**2 + along**2) / a.heart_size**2, 0.22)
    lungs = lungs * (1 - 0.95 * heart)

    hilum = np.exp(-(((side - 0.22) / 0.16) ** 2) - ((y + 0.02) / 0.28) ** 2)
    vessels = _clouds(x.shape, 26, rng) * (0.02 + 0.06 * hilum) + 0.10 * hilum
    cage = _step(a.chest - 0.08 - side, 0.03) * _step(y + 0.85, 0.05) * _step(0.75 - y, 0.1)
    bend = a.rib_slope * side - 0.25 * side**2 + np.where(x < 0, np.float32(0.02), np.float32(0))
    ribs = np.clip(np.cos(2 * np.pi * (y - bend) / a.rib_spacing), 0, 1) ** 2 * cage * _step(side - 0.12, 0.04)
    clavicles = np.exp(-(((y + 0.66 - 0.22 * side) / 0.035) ** 2)) * _step(side - 0.06, 0.02) * _step(0.75 - side, 0.03)
    vertebrae = 0.8 + 0.2 * np.cos(2 * np.pi * y / 0.13)
    spine = np.exp(-((x / a.spine_width) ** 2)) * vertebrae

    tissue = 0.52 + 0.08 * y + 0.12 * _step(y - dome, 0.05) + 0.05 * _clouds(x.shape, 3, rng)
    attenuation = tissue - 0.36 * lungs + vessels * lungs + 0.10 * ribs + 0.13 * clavicles + 0.17 * spine + 0.08 * heart
    return (body * attenuation).astype(np.float32), lungs.astype(np.float32)


def _opacities(kind: str, lungs: _Field, x: _Field, y: _Field, rng: np.random.Generator) -> _Field:
    """Draw blurred patches in the lungs: one or two dense ones, or several faint ones."""
    dense = kind == "bacteria"
    within = np.flatnonzero(lungs > 0.6)
    patches = np.zeros_like(lungs)
    for _ in range(int(rng.integers(1, 3)) if dense else int(rng.integers(3, 7))):
        centre = rng.choice(within)
        radius_x, radius_y = ((rng.uniform(0.14, 0.30) if dense else rng.uniform(0.09, 0.18)) for _ in "xy")
        strength = rng.uniform(0.20, 0.38) if dense else rng.uniform(0.13, 0.24)
        distance = ((x - x.flat[centre]) / radius_x) ** 2 + ((y - y.flat[centre]) / radius_y) ** 2
        patches += np.float32(strength) * np.exp(-distance)
    # Never denser than the tissue around the lung, and uneven like fluid.
    uneven = 1 + 0.35 * _clouds(lungs.shape, 14, rng)
    return np.asarray(lungs * np.minimum(patches * uneven, np.float32(0.36)))


def _expose(attenuation: _Field, rng: np.random.Generator) -> Image.Image:
    """Apply window, gamma, sharpness and noise, drawn for each picture independently of its class.

    The window varies far more than opacities change a picture's mean, so brightness alone cannot separate the classes.
    """
    low, high = rng.uniform(-0.05, 0.08), rng.uniform(0.72, 1.05)
    film = np.clip((attenuation - low) / (high - low), 0, 1) ** rng.uniform(0.65, 1.5)
    picture = Image.fromarray((film * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    grain = rng.standard_normal(film.shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 6.0))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def _stamp(picture: Image.Image) -> Image.Image:
    """Write "PHANTOM" into the lower right corner, on black so that it is always readable."""
    font = ImageFont.load_default_imagefont()
    _, _, width, height = font.getbbox(STAMP)
    left, top = picture.width - int(width) - 6, picture.height - int(height) - 4
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 3, top - 2, picture.width, picture.height), fill=0)
    draw.text((left, top), STAMP, fill=230, font=font)
    return picture


def _step(distance: _Field, softness: float) -> _Field:
    """Ramp from 0 to 1 while ``distance`` grows from -``softness`` to ``softness``."""
    ramp = np.clip(distance * np.float32(0.5 / softness) + np.float32(0.5), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float32)


def _clouds(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> _Field:
    """Make smooth noise with about ``cells`` blobs per side and a standard deviation near 0.5."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return 0.7 * np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float32)
