"""From stored values to shades: the standard's grayscale pipeline (PS3.3 C.7.6.3, C.11.1, C.11.2) as one table.

The table has an entry for each pattern of bits that a pixel can have, for any number of pixels: modality LUT or
rescale, VOI LUT or window, MONOCHROME1 or INVERSE inverted, padding black. pydicom's own ``apply_windowing`` inverts
the picture where the slope is negative, and its ``apply_voi_lut`` wraps round in an 8-bit table of more than 256
entries.

Where a file says more bits than it uses, what it uses is scaled: many writers state the word's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pneumo_edge.errors import ImageError
from pneumo_edge.imaging.dicom.problems import EXPORT, WITH_WINDOW

if TYPE_CHECKING:
    from pneumo_edge.imaging.dicom.reading import Header, Stored

Shades = npt.NDArray[np.uint8]
_Values = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]
_Chosen = npt.NDArray[np.bool_]

#: Fewer shades of the 256 than these show nothing, whichever way leads to them.
_MIN_SHADES = 32
#: Up to so many bits, stored values are the shades themselves where there is no window.
_SHADE_BITS = 8


def of(header: Header, pixels: Stored) -> Shades:
    """Map stored pixels to shades.

    Args:
        header: What the file says of its picture.
        pixels: The bits of each pixel in an unsigned number of 8 or 16 bits, of shape (height, width).

    Returns:
        uint8 array of the same shape, 0 black and 255 white.

    Raises:
        ImageError: The window or a table cannot be applied, or too few shades come of it.
    """
    patterns = np.arange(256**pixels.itemsize)
    # Bits above BitsStored may hold anything (PS3.5 8.1.1).
    stored = _signed(patterns & (2**header.bits_stored - 1), header.bits_stored, header.is_signed)
    occurs = np.zeros(len(patterns), np.bool_)
    occurs[pixels] = True
    padding = _padding(header, patterns, stored)
    shown = occurs & ~padding
    table, is_windowed = _table(header, stored, stored[shown])
    _check_shades(header, len(np.unique(table[shown])), is_windowed)
    table[padding] = 0
    shades: Shades = table[pixels]
    return shades


def _signed(patterns: _Integers, bits: int, is_signed: bool) -> _Integers:
    return np.where(patterns >= 2 ** (bits - 1), patterns - 2**bits, patterns) if is_signed else patterns


def _padding(header: Header, patterns: _Integers, stored: _Integers) -> _Chosen:
    """Find the patterns of bits that are padding (PS3.3 C.7.5.1.1.2): always black, also in an inverted picture."""
    elements, bits = header.elements, header.bits_allocated
    value = elements.get("PixelPaddingValue")
    if value in (None, ""):
        return np.zeros(len(patterns), np.bool_)
    limit = elements.get("PixelPaddingRangeLimit")
    # Writers take either representation for either sign; the bits are the same.
    ends = np.array([int(value), int(value if limit in (None, "") else limit)]) & (2**bits - 1)
    least, most = sorted(_signed(ends, bits, header.is_signed).tolist())
    # Where padding does not fit into BitsStored, it takes all bits.
    words = _signed(patterns, bits, header.is_signed)
    is_padding: _Chosen = ((least <= stored) & (stored <= most)) | ((least <= words) & (words <= most))
    return is_padding


def _check_shades(header: Header, used: int, is_windowed: bool) -> None:
    # A picture of very few bits cannot have more.
    if used >= min(_MIN_SHADES, max(2, 2**header.bits_stored // 4)):
        return
    of_256 = f"{used} of 256 shades"
    given = f"shows {of_256} with its window or lookup table" if is_windowed else f"has no window, and uses {of_256}"
    raise ImageError(
        f"the DICOM file {given}", "a window that maps it to 8 bits (it determines what is visible)", WITH_WINDOW
    )


def _table(header: Header, stored: _Integers, shown: _Integers) -> tuple[Shades, bool]:
    """The shade of each pattern of bits, before padding.

    Args:
        header: What the file says of its picture.
        stored: The value of each pattern.
        shown: The values that the picture has.

    Returns:
        uint8 array, one shade for each pattern; and whether the file says which values are to be seen.
    """
    try:
        with np.errstate(all="ignore"):
            values, low, high = _apply_modality(header, stored, shown)
            shades, is_windowed = _apply_voi(header, values, low, high)
        is_usable = bool(np.isfinite(shades).all())
    except (ArithmeticError, LookupError, TypeError, ValueError):
        is_usable = False
    if not is_usable:
        raise ImageError("the DICOM file's window or lookup table cannot be applied", "a valid one", EXPORT)
    if header.is_inverted:
        shades = 1 - shades
    return np.rint(255 * shades).astype(np.uint8), is_windowed


def _range_in_use(header: Header, shown: _Integers) -> tuple[int, int]:
    """The least and the largest value of as many bits as the picture uses."""
    bits = header.bits_stored
    least, most = (int(shown.min()), int(shown.max())) if len(shown) else (0, 0)
    if bits > _SHADE_BITS:
        bits = max(1, most.bit_length(), (-least - 1).bit_length() if least < 0 else 0)
    elif header.is_signed:
        least, bits = -1, bits - 1
    return (-(2**bits), 2**bits - 1) if least < 0 else (0, 2**bits - 1)


def _apply_modality(header: Header, stored: _Integers, shown: _Integers) -> tuple[_Values, float, float]:
    """Modality LUT or rescale (PS3.3 C.11.1); also the values that are black and white where there is no window."""
    elements = header.elements
    least, most = _range_in_use(header, shown)
    if elements.get("ModalityLUTSequence"):
        values, _, bits = _look_up(elements.ModalityLUTSequence[0], stored, header.is_little_endian)
        return values, 0, _largest(values[(least <= stored) & (stored <= most)], bits)
    slope, intercept = _first(elements.get("RescaleSlope")), _first(elements.get("RescaleIntercept"))
    slope, intercept = 1 if slope is None else slope, intercept or 0
    low, high = sorted((least * slope + intercept, most * slope + intercept))
    return stored * slope + intercept, low, high


def _apply_voi(header: Header, values: _Values, low: float, high: float) -> tuple[_Values, bool]:
    """VOI LUT or window, the first of several (PS3.3 C.11.2); without one, ``low`` is black and ``high`` white.

    Returns:
        Shades from 0 to 1, and whether there was one.
    """
    elements = header.elements
    if elements.get("VOILUTSequence"):
        found, entries, bits = _look_up(elements.VOILUTSequence[0], values, header.is_little_endian)
        return found / _largest(entries, bits), True
    centre, width = _first(elements.get("WindowCenter")), _first(elements.get("WindowWidth"))
    if centre is None or width is None:
        if not low < high:
            raise ValueError
        return np.clip((values - low) / (high - low), 0, 1), False
    function = elements.get("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not width >= (1 if function == "LINEAR" else 1e-9):
        raise ValueError
    if function == "SIGMOID":
        # Beyond 700, exp overflows; long before, the shade is black or white.
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))), True
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64), True
    return np.clip((values - centre) / width + 0.5, 0, 1), True


def _look_up(item: Any, values: npt.NDArray[Any], is_little_endian: bool) -> tuple[_Values, _Integers, int]:
    """A lookup table applied to values (PS3.3 C.11.1.1.1).

    Returns:
        The entry of each value; all entries; and how many bits they are said to have.
    """
    count, first, bits = (int(number) & 0xFFFF for number in item.LUTDescriptor)
    count = count or 2**16
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # the sign of what is looked up is also that of the first value
    data = item.LUTData
    if isinstance(data, bytes):
        # Entries of 8 bits may stand two in a word.
        kind = "u1" if bits <= 8 and len(data) < 2 * count else "<u2" if is_little_endian else ">u2"
        entries = np.frombuffer(data, kind).astype(np.int64)
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if not 1 <= bits <= 16 or len(entries) < count:
        raise ValueError
    entries = entries[:count]
    return entries[np.clip(np.rint(values) - first, 0, count - 1).astype(np.int64)].astype(np.float64), entries, bits


def _largest(entries: npt.NDArray[Any], bits: int) -> int:
    """What is white in a table: the largest number of its bits; where it does not use them all, its largest entry."""
    largest = int(entries.max())
    if largest < 1:
        raise ValueError
    return 2**bits - 1 if largest.bit_length() == bits else largest


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else None
    return None if value is None or value == "" else float(value)
