"""DICOM files as 8-bit greyscale pictures, as a radiologist would see them, without patient data.

A file is read in two steps, so that its size can be checked before a pixel is decoded. pydicom parses it, asked for the
elements that describe the picture alone (``reading.py``); imagecodecs decodes compressed pixels (``compressed.py``);
the rest is the standard's grayscale pipeline (``shades.py``).

pydicom's warnings, log records and exceptions quote the values that they are about. None of them
leaves this package: not printed, not in the text of an error, not as its cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

from pneumo_edge._util import extras, library_warnings
from pneumo_edge.errors import ImageError, MissingExtraError
from pneumo_edge.imaging.dicom import compressed, reading, shades
from pneumo_edge.imaging.dicom.problems import AGAIN, WHOLE
from pneumo_edge.imaging.dicom.reading import Header, begins_at

__all__ = ["Picture", "begins_at", "open_picture"]

T = TypeVar("T")

_EXTRA = "dicom"
library_warnings.keep_unheard(
    "pydicom", "pydicom.pixels.utils", "pydicom.pixels.decoders.base", "pydicom.pixels.encoders.base"
)


@dataclass(frozen=True)
class Picture:
    """A DICOM file of which the header has been read; ``size`` is (width, height) in pixels."""

    size: tuple[int, int]
    _header: Header

    def decode(self) -> shades.Shades:
        """Decode the pixels and map them to shades.

        Returns:
            uint8 array of shape (height, width), 0 black and 255 white.

        Raises:
            ImageError: The pixels are truncated, corrupt, or do not match the header; they show nothing in 8 bits
                without another window; or their decoder is not installed.
        """
        pydicom = _need("pydicom")
        codecs = _need("imagecodecs") if self._header.syntax in compressed.DECODERS else None

        return _contain(lambda: shades.of(self._header, reading.stored_pixels(self._header, pydicom, codecs)))


def open_picture(data: bytes) -> Picture:
    """Read the header of a DICOM file, up to the pixels.

    Args:
        data: The file, which :func:`begins_at` has found to be one.

    Raises:
        ImageError: The file is truncated or corrupt, does not contain one greyscale image of at most 16 bits,
            or has an unsupported compression; or the extra ``dicom`` is not installed.
    """
    pydicom = _need("pydicom")

    def read() -> Picture:
        header = reading.read_header(data, pydicom)
        return Picture((header.columns, header.rows), header)

    return _contain(read)


def _need(module: str) -> ModuleType:
    try:
        return extras.need(module, _EXTRA)
    except MissingExtraError as error:
        # One such file among many images must not end the run.
        raise ImageError(f"this is a DICOM file, and {error.given}", error.expected, error.remedy) from error


def _contain(work: Callable[[], T]) -> T:
    """Call ``work``; return its result or raise an ImageError, and nothing else."""
    with library_warnings.Unheard():
        try:
            return work()
        except ImageError:
            raise
        except Exception:  # the libraries promise no common base class for broken input
            pass
    # Not raised in the handler: an exception keeps the one that was being handled, and its text.
    raise ImageError("the DICOM file is truncated or corrupt", WHOLE, AGAIN)
