"""A picture that tests of image files put into them, and how a file may store one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge.data.phantom import make_phantom

Grey = npt.NDArray[np.uint8]

#: How each EXIF orientation stores an upright picture, from the table in the standard.
STORED: dict[int, Callable[[Grey], Grey]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.T, 2),
    8: lambda a: np.rot90(a, 3),
}


def draw(folder: Path) -> Grey:
    """A drawing of 226 by 240 pixels whose verdict tells it well from its negative; made in a new folder."""
    make_phantom(folder, seed=4, train_per_class=4, test_per_class=1)
    with Image.open(next(folder.rglob("person5_virus_3.jpeg"))) as image:
        return np.asarray(image.convert("L").resize((240, 226)))


def turned(upright: Grey, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """A picture as an orientation stores it, with the tag that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))), exif
