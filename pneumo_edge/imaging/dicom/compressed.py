"""Compressed pixels, decoded by imagecodecs once their own header agrees with that of the DICOM file."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pneumo_edge.errors import ImageError
from pneumo_edge.imaging.dicom.problems import AGAIN, EXPORT, WHOLE, contradiction

if TYPE_CHECKING:
    from pneumo_edge.imaging.dicom.reading import Header, Stored

#: Compressed transfer syntaxes that are read, and imagecodecs' decoder for each (PS3.5 Annex A).
DECODERS = {
    "1.2.840.10008.1.2.4.50": "jpeg8",  # Baseline
    "1.2.840.10008.1.2.4.51": "jpeg8",  # Extended, 8 or 12 bits
    "1.2.840.10008.1.2.4.57": "jpeg8",  # Lossless
    "1.2.840.10008.1.2.4.70": "jpeg8",  # Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "jpegls",
    "1.2.840.10008.1.2.4.81": "jpegls",
    "1.2.840.10008.1.2.4.90": "jpeg2k",
    "1.2.840.10008.1.2.4.91": "jpeg2k",
    "1.2.840.10008.1.2.5": "dicomrle",
}
_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 81, 91))

#: A JPEG 2000 picture in more tiles than these is an attack on time and memory.
_MOST_TILES = 4096
#: A greyscale picture takes one scan, and a progressive one, which DICOM does not allow, about 10.
_MOST_SCANS = 100
_JPEG = b"\xff\xd8\xff"
_START_OF_SCAN, _END_OF_IMAGE, _JPEG_LS_FRAME, _FILL = 0xFFDA, 0xFFD9, 0xFFF7, 0xFFFF
#: A marker that ends coded data: JPEG stuffs a zero behind 0xFF, JPEG-LS a bit, and restarts are part of the data.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_CODESTREAM, _JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"


def decode(frame: bytes, header: Header, codecs: ModuleType) -> Stored:
    """Decode the one frame of a file.

    Args:
        frame: Its fragments, joined.
        header: What the DICOM file says of it.
        codecs: imagecodecs.

    Returns:
        The bits of each pixel in an unsigned number, of shape (height, width).

    Raises:
        ImageError: The frame is cut off, or not what the header says.
        Exception: The frame is broken.
    """
    shape, decoder = (header.rows, header.columns), DECODERS[header.syntax]
    run: Callable[..., npt.NDArray[Any]] = getattr(codecs, f"{decoder}_decode")
    if decoder == "dicomrle":
        count, kind = shape[0] * shape[1], np.dtype(f"<u{header.bits_allocated // 8}")
        try:
            pixels = run(frame, kind, out=bytearray(count * kind.itemsize))
        except codecs.DicomrleError:
            # It takes what follows the last segment for a part of it.
            pixels = run(frame[: _end_of_rle(frame, count)], kind, out=bytearray(count * kind.itemsize))
        return np.frombuffer(pixels, kind, count).reshape(shape)
    if decoder == "jpeg2k":
        codestream = _codestream(frame)
        _check_codestream(codestream, shape)
        pixels = run(codestream)
        if pixels.shape != shape or pixels.itemsize > 2:
            raise ValueError
    else:
        picture, samples = _check_jpeg(frame, shape, decoder)
        pixels = run(picture, out=np.empty(shape, samples))
    return _as_bits(pixels, header)


def _end_of_rle(frame: bytes, count: int) -> int:
    """Where the last segment ends that holds so many bytes (PS3.5 Annex G)."""
    segments, *offsets = struct.unpack_from("<16I", frame)
    at: int = offsets[segments - 1]
    while count > 0:
        (control,) = struct.unpack_from("b", frame, at)
        # So many bytes as they are; one byte so many times; or nothing.
        at += 2 + control if control >= 0 else 1 if control == -128 else 2
        count -= 1 + control if control >= 0 else 0 if control == -128 else 1 - control
    return at


def _as_bits(pixels: npt.NDArray[Any], header: Header) -> Stored:
    bits = header.bits_stored
    if header.syntax in _LOSSY and header.is_signed == (pixels.dtype.kind == "i") and bits < 8 * pixels.itemsize:
        # A white value that overflows slightly must not turn black.
        least = -(2 ** (bits - 1)) if header.is_signed else 0
        pixels = pixels.astype(np.int32).clip(least, least + 2**bits - 1).astype(f"{pixels.dtype.kind}2")
    if pixels.dtype.kind == "i":
        # A sign fills all bits of a word, as many as the header's value has of them.
        return pixels.astype(np.int16).view(np.uint16)
    return pixels


def _check_jpeg(frame: bytes, shape: tuple[int, int], decoder: str) -> tuple[bytes, type[np.unsignedinteger[Any]]]:
    """Check a JPEG or JPEG-LS frame against the header (ISO 10918-1 B.2.2).

    Returns:
        The frame without what follows its end, and what its samples fit into.
    """
    if not frame.startswith(_JPEG):
        raise contradiction("says JPEG, but its pixels have another compression")
    at, scans, kind = 2, 0, None
    while (marker := _marker(frame, at)) != _END_OF_IMAGE:
        if marker == _FILL:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if marker == _JPEG_LS_FRAME or (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)):
            if (marker == _JPEG_LS_FRAME) != (decoder == "jpegls"):
                raise contradiction("says one kind of JPEG, but its pixels have another")
            kind = _check_frame_header(frame, at + 4, shape)
        at += 2 + length
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > _MOST_SCANS:
                raise ImageError("the DICOM file's JPEG has too many scans", f"at most {_MOST_SCANS}", EXPORT)
            found = _MARKER.search(frame, at)
            if found is None:
                # libjpeg would make up what is missing.
                raise ImageError("the DICOM file's JPEG is truncated", WHOLE, AGAIN)
            at = found.start()
    if kind is None:
        raise ValueError
    return frame[: at + 2], kind


def _marker(frame: bytes, at: int) -> int:
    marker: int = struct.unpack_from(">H", frame, at)[0]
    if not marker >= 0xFFC0:
        raise ValueError
    return marker


def _check_frame_header(frame: bytes, at: int, shape: tuple[int, int]) -> type[np.unsignedinteger[Any]]:
    bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at)
    _check_size((rows, columns), components, shape)
    return np.uint8 if bits <= 8 else np.uint16


def _check_size(found: tuple[int, int], components: int, shape: tuple[int, int]) -> None:
    if components != 1:
        raise contradiction(f"says greyscale, but its compressed picture has {components} channels")
    if found != shape:
        raise contradiction(f"says {shape[1]}x{shape[0]}, but its compressed picture is {found[1]}x{found[0]}")


def _codestream(frame: bytes) -> bytes:
    """The codestream alone where it lies in the boxes of a JP2 file (ISO 15444-1 Annex I), as some writers leave it."""
    if not frame.startswith(_JP2):
        return frame
    at = 0
    while True:
        length, kind = struct.unpack_from(">I4s", frame, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, start)
            start += 8
        # A length of 0 is all the rest.
        end = at + length if length else len(frame)
        if kind == b"jp2c":
            return frame[start:end]
        if end <= at:
            raise ValueError
        at = end


def _check_codestream(frame: bytes, shape: tuple[int, int]) -> None:
    """Check a codestream against the header before OpenJPEG allocates its memory (ISO 15444-1 A.5.1)."""
    if not frame.startswith(_CODESTREAM):
        raise contradiction("says JPEG 2000, but its pixels have another compression")
    columns, rows, left, top, tile_width, tile_height, *offsets, components = struct.unpack_from(">8IH", frame, 8)
    _check_size((rows - top, columns - left), components, shape)
    if any((left, top, *offsets)):
        raise ImageError("the DICOM file's JPEG 2000 picture does not begin at 0, 0", "one that begins there", EXPORT)
    if -(-columns // tile_width) * -(-rows // tile_height) > _MOST_TILES:
        raise ImageError("the DICOM file's JPEG 2000 picture has too many tiles", f"at most {_MOST_TILES:,}", EXPORT)
