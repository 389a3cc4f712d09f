"""The image files of the test vectors: phantom images, in every kind of file that decoders treat differently."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge._util import scratch
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.imaging.images import MIN_SIDE

#: Height of most images in pixels: an original of phantom size, scaled down so that a kit stays small.
_SIDE = 150
#: Sides of the image that is scaled down most: those of a small X-ray.
_LARGE = (1000, 824)
_ORIENTATION = 0x0112
#: The camera was turned: rows of the file are columns of the picture.
_ROTATED, _MIRRORED = 6, 4


@dataclass(frozen=True)
class TestImage:
    """An image file of the test vectors: its name, its bytes, and what it tests."""

    __test__ = False

    name: str
    content: bytes
    about: str


def draw(height: int, width: int) -> list[TestImage]:
    """Draw the images.

    Args:
        height: Height of the model's images in pixels.
        width: Their width.

    Returns:
        The same bytes with the same versions of numpy and Pillow.
    """
    return list(_draw(height, width))


def _draw(height: int, width: int) -> Iterator[TestImage]:
    normal, pneumonia = _phantoms()
    small = normal.resize((round(normal.width * _SIDE / normal.height), _SIDE), Image.Resampling.LANCZOS)
    colours = _coloured(small)
    yield _image("grey.jpeg", normal, "a greyscale JPEG", quality=90)
    yield _image("pneumonia.jpeg", pneumonia, "a greyscale JPEG of the other class", quality=90)
    yield _image("progressive.jpeg", small, "a progressive JPEG", quality=90, progressive=True)
    yield _image("colour.jpeg", colours, "a colour JPEG without chroma subsampling", quality=95, subsampling=0)
    yield _image("rotated.jpeg", small, "EXIF orientation 6: turn it by 90 degrees", exif=_exif(_ROTATED), quality=90)
    yield _image("mirrored.jpeg", small, "EXIF orientation 4: upside down", exif=_exif(_MIRRORED), quality=90)
    yield _image("grey.png", small, "a greyscale PNG")
    yield _image("colour.png", colours, "an RGB PNG whose channels differ: their order and weights show")
    transparent = colours.copy()
    transparent.putalpha(small.point(lambda value: 255 - value // 2))
    yield _image("transparent.png", transparent, "an RGBA PNG: alpha is ignored, not blended")
    yield _image("palette.png", colours.quantize(32, dither=Image.Dither.NONE), "a PNG with a palette")
    yield _image("bilevel.png", small.convert("1"), "a PNG of 1 bit: black is 0, white is 255")
    yield _image("wide.png", small.resize((500, 90)), "far from square: the aspect ratio is not kept")
    yield _image("small.png", small.resize((40, 33)), "smaller than the model's images: interpolated")
    yield _image("large.png", pneumonia.resize(_LARGE), "large: much is averaged into each pixel")
    yield _image("noise.png", _noise(), "noise: shows every difference of a resize")
    yield _image("same.png", small.resize((width, height)), "of the model's size: nothing is resized")
    yield TestImage("16-bit.png", _16_bits(small), "more than 8 bits per channel")
    yield _image("tiny.png", small.resize((MIN_SIDE - 1, 60)), f"a side of less than {MIN_SIDE} pixels")
    yield _image("cmyk.jpeg", colours.convert("CMYK"), "a colour space other than grey or RGB")
    whole = _encoded("whole.jpeg", normal)
    yield TestImage("truncated.jpeg", whole[: len(whole) // 2], "half a file")
    yield TestImage("text.png", b"This is a text.\n" * 20, "not an image")


def _phantoms() -> tuple[Image.Image, Image.Image]:
    """One of each class, as the greyscale pictures that `pneumo-edge data phantom` draws."""
    with scratch.folder() as folder:
        drawn = make_phantom(folder / "phantom", seed=0, train_per_class=1, test_per_class=1)
        normal, pneumonia = (Image.open(next((drawn / "train" / name).iterdir())) for name in ("NORMAL", "PNEUMONIA"))
        normal.load()
        pneumonia.load()
    return normal, pneumonia


def _coloured(grey: Image.Image) -> Image.Image:
    """A picture whose channels differ in brightness and in what they show."""
    pixels = np.asarray(grey, np.int32)
    channels = (pixels, 255 - pixels[:, ::-1], np.roll(pixels, 17, axis=0) // 3)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _noise() -> Image.Image:
    random: npt.NDArray[Any] = np.random.default_rng(0).integers(0, 256, (317, 421), np.uint8)
    # Fine and coarse: the left half has blocks.
    random[:, :200] = np.repeat(np.repeat(random[::8, :200:8], 8, axis=0), 8, axis=1)[:317]
    return Image.fromarray(random)


def _16_bits(grey: Image.Image) -> bytes:
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return _encoded("deep.png", deep)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


def _image(name: str, picture: Image.Image, about: str, **options: Any) -> TestImage:
    return TestImage(name, _encoded(name, picture, **options), about)


def _encoded(name: str, picture: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG" if name.endswith(".jpeg") else "PNG", **options)
    return stream.getvalue()
