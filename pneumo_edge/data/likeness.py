"""Perceptual hashes, which find the same picture in files with different bytes.

The hash is ImageHash's ``phash``, computed with numpy alone. The split depends on it, and a split must not depend on
the installed extras. A test checks that the hashes are the same as ImageHash's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

Bits = npt.NDArray[np.bool_]

#: The perceptual hash has HASH_SIZE squared bits; images are near duplicates up to NEAR_BITS different bits.
#: Chest X-rays are so similar that the usual 64 bits at distance 8 give 10,000 pairs on the 5,840 Kermany images at
#: 224 pixels, none of them a duplicate. With 256 bits the closest two different X-rays there have distance 38 (median
#: 118). The same X-ray after JPEG at quality 20, a gamma of 0.8 or 1.4, or in another resolution has distance 20 or
#: less. A crop by 2 % or more at each side is not found.
HASH_SIZE = 16
NEAR_BITS = 20

#: The picture is resized to this many pixels per side.
_SIDE = 4 * HASH_SIZE
#: About half the bits are set, because each says whether a frequency is above the median. A picture of one shade has
#: almost no frequencies and so few bits set; two of them must not count as copies.
_FEWEST_SET = HASH_SIZE**2 // 4
_BLOCK, _COLUMNS = 1024, 16384


def perceptual_hash(grey: Image.Image) -> Bits:
    """Hash a picture by its lowest frequencies.

    Args:
        grey: A Pillow image of mode ``"L"``, of any size.

    Returns:
        Shape (:data:`HASH_SIZE` squared,): for each frequency whether it is above the median.
    """
    pixels = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    cosines = _cosines()
    # Rounded, so that values close to 0 are 0 on every machine.
    low = np.round(cosines @ pixels @ cosines.T, 6)
    bits: Bits = (low > np.median(low)).ravel()
    return bits


def find_alike(hashes: Sequence[Bits]) -> Iterator[tuple[int, int, int]]:
    """Find the pairs of pictures that are near duplicates.

    Args:
        hashes: From :func:`perceptual_hash`.

    Yields:
        (first, second, distance): two indices, the smaller first, and the number of different bits, 0 to
        :data:`NEAR_BITS`.
    """
    if not hashes:
        return
    bits = np.stack(hashes)
    indices = np.flatnonzero(bits.sum(axis=1) >= _FEWEST_SET)
    # With bits as -1 and 1, the product of two hashes is the number of equal bits minus that of different bits.
    signs = np.where(bits[indices], np.float32(1), np.float32(-1))
    for start in range(0, len(indices), _BLOCK):
        rows = signs[start : start + _BLOCK]
        found = []
        # In pieces, because there may be very many columns.
        for first in range(start, len(indices), _COLUMNS):
            products = rows @ signs[first : first + _COLUMNS].T
            near = np.argwhere(products >= HASH_SIZE**2 - 2 * NEAR_BITS)
            found += [
                (start + int(row), first + int(column), int((HASH_SIZE**2 - products[row, column]) / 2))
                for row, column in near
                if first + column > start + row
            ]
        for one, other, distance in sorted(found):
            yield int(indices[one]), int(indices[other]), distance


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """Return the first rows of the discrete cosine transform of :data:`_SIDE` values, shape (HASH_SIZE, _SIDE)."""
    frequencies, places = np.arange(HASH_SIZE)[:, np.newaxis], np.arange(_SIDE)
    cosines: npt.NDArray[np.float64] = 2 * np.cos(np.pi * frequencies * (2 * places + 1) / (2 * _SIDE))
    return cosines
