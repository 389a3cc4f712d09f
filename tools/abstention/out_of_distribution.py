"""Images that are no frontal chest X-rays as seen in training: made, or taken from libraries that are installed.

Each kind is made of validation X-rays, or of none at all; the same seed gives the same images. Everything is greyscale,
as a model sees it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from pneumo_edge._util import extras
from pneumo_edge.data import phantom
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images

#: Images of each kind, unless a library ships fewer.
COUNT = 100
_SIDE = 224
_WORDS = (
    "patient",
    "history",
    "of",
    "findings",
    "and",
    "impression",
    "no",
    "evidence",
    "2024",
    "left",
    "lower",
    "lobe",
)

Grey = npt.NDArray[np.uint8]
Random = np.random.Generator
Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Kind:
    """A kind of out-of-distribution image.

    ``subtle`` ones are chest X-rays of children too, as another hospital might export them; ``make`` takes
    validation X-rays of mode ``"L"``.
    """

    name: str
    subtle: bool
    make: Callable[[Random, Sequence[Image.Image]], Iterator[Image.Image]]


def _photographs(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
    datasets = extras.need("sklearn.datasets", "dev")
    cbook = extras.need("matplotlib.cbook", "report")
    pictures = [Image.fromarray(each) for each in datasets.load_sample_images().images]
    with cbook.get_sample_data("grace_hopper.jpg") as stream:
        pictures.append(Image.open(stream).convert("RGB"))
    for index in range(COUNT):
        picture = pictures[index % len(pictures)]
        side = int(random.uniform(0.35, 1) * min(picture.size))
        left, top = (int(random.integers(0, length - side + 1)) for length in picture.size)
        yield picture.crop((left, top, left + side, top + side)).convert("L")


def _scans(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
    folder = Path(str(extras.need("pydicom", "dicom").__file__)).parent / "data" / "test_files"
    seen = set()
    for path in sorted(folder.glob("*.dcm")):
        try:
            scan = images.decode(path.read_bytes())
        except ImageError:
            continue
        if scan.tobytes() not in seen:
            seen.add(scan.tobytes())
            yield scan


def _text(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
    for index in range(COUNT):
        paper, ink = (255, 0) if index % 2 else (0, 255)
        page = Image.new("L", (2 * _SIDE, 2 * _SIDE), paper)
        size = int(random.integers(10, 40))
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        for line in range(5, 2 * _SIDE, int(1.3 * size)):
            draw.text((5, line), " ".join(random.choice(_WORDS, 14)), fill=ink, font=font)
        yield page


def _blank(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
    for level in np.linspace(0, 255, COUNT).astype(int).tolist():
        yield Image.new("L", (_SIDE, _SIDE), level)


def _noise(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
    # From a grain of one pixel to clouds.
    for index in range(COUNT):
        grain = random.integers(0, 256, (_SIDE // (1 + index % 20),) * 2, dtype=np.uint8)
        yield Image.fromarray(grain).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)


def _drawings(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
    with tempfile.TemporaryDirectory() as folder:
        made = phantom.make_phantom(Path(folder, "phantom"), int(random.integers(1000)), 1, COUNT // 2)
        for path in sorted(made.glob("test/*/*.jpeg")):
            yield images.decode(path.read_bytes())


def _changed(change: Change) -> Callable[[Random, Sequence[Image.Image]], Iterator[Image.Image]]:
    def make(random: Random, x_rays: Sequence[Image.Image]) -> Iterator[Image.Image]:
        chosen = random.choice(len(x_rays), min(COUNT, len(x_rays)), replace=False)
        return (change(x_rays[index]) for index in np.sort(chosen).tolist())

    return make


def _crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """What lies between shares of width and height, at the size of the whole."""
    width, height = image.size
    box = (left * width, top * height, right * width, bottom * height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def _curve(slope: float) -> Change:
    """Multiply the contrast about middle grey."""
    table = np.rint(np.clip(128 + slope * (np.arange(256.0) - 128), 0, 255)).astype(int).tolist()
    return lambda image: image.point(table)


def _local_contrast(image: Image.Image, radius: float, whole: float, detail: float) -> Image.Image:
    """Weaken what is larger than ``radius`` pixels to a share ``whole``, and multiply what is smaller by ``detail``."""
    grey = np.asarray(image, dtype=np.float64)
    smooth = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64)
    return Image.fromarray(np.clip(128 + whole * (smooth - 128) + detail * (grey - smooth), 0, 255).astype(np.uint8))


def _other_hospital(image: Image.Image) -> Image.Image:
    """A narrower field, equalized, and not as sharp."""
    narrow = _crop(image, 0.12, 0.05, 0.88, 0.95)
    return _local_contrast(ImageOps.equalize(narrow), 12, 0.6, 1.2).filter(ImageFilter.GaussianBlur(0.8))


def _wide(image: Image.Image) -> Image.Image:
    """More than the chest on the film: the picture at four fifths of its size, on black."""
    width, height = image.size
    film = Image.new("L", image.size)
    film.paste(image.resize((width * 4 // 5, height * 4 // 5), Image.Resampling.BILINEAR), (width // 10, height // 10))
    return film


KINDS = (
    Kind("photographs", False, _photographs),
    Kind("CT and MR slices", False, _scans),
    Kind("text", False, _text),
    Kind("blank", False, _blank),
    Kind("noise", False, _noise),
    Kind("drawings of a chest", False, _drawings),
    Kind("X-rays, inverted", False, _changed(ImageOps.invert)),
    Kind("X-rays, upside down", False, _changed(ImageOps.flip)),
    Kind("X-rays, on their side", False, _changed(lambda image: image.transpose(Image.Transpose.ROTATE_90))),
    Kind("X-rays, a quarter of the contrast", False, _changed(_curve(0.25))),
    Kind("X-rays, four times the contrast", False, _changed(_curve(4))),
    Kind("X-rays, the middle half", False, _changed(lambda image: _crop(image, 0.25, 0.25, 0.75, 0.75))),
    Kind("another hospital: narrow, equalized, soft", True, _changed(_other_hospital)),
    Kind("another hospital: bones enhanced", True, _changed(lambda image: _local_contrast(image, 6, 0.6, 2.4))),
    Kind("another hospital: narrow field", True, _changed(lambda image: _crop(image, 0.15, 0, 0.85, 1))),
    Kind("another hospital: wide field", True, _changed(_wide)),
    Kind("another hospital: soft", True, _changed(lambda image: image.filter(ImageFilter.GaussianBlur(1.5)))),
    Kind("mirrored", True, _changed(ImageOps.mirror)),
)
