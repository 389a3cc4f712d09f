"""Reads a DICOM file with pydicom: the elements that describe its picture, and the stored pixels."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge.errors import ImageError
from pneumo_edge.imaging.dicom import compressed
from pneumo_edge.imaging.dicom.problems import AGAIN, EXPORT, ONE_GREY, WHOLE, contradiction

Stored = npt.NDArray[np.unsignedinteger[Any]]

#: Transfer syntaxes that are not compressed (PS3.5 Annex A).
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_UNCOMPRESSED = frozenset({_IMPLICIT, _EXPLICIT, _BIG_ENDIAN})
_READ = "uncompressed, JPEG, JPEG Lossless, JPEG-LS, JPEG 2000 or RLE"
#: The elements that are read beside the pixels. None of them tells of a patient.
ELEMENTS = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence",
    "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PresentationLUTShape", "SharedFunctionalGroupsSequence",
)  # fmt: skip
_REQUIRED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored")
_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXELS = frozenset({0x7FE00008, 0x7FE00009})
#: An X-ray's header has some hundred elements, and the longest that is read holds tables of 128 KiB each.
#: More than these is an attack on time and memory.
_MOST_READS = 100_000
_LONGEST_VALUE = 2**20
#: Photometric interpretations that an error may name (PS3.3 C.7.6.3.1.2); another value may be anything.
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOURS = frozenset({"PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"})

_SIGN = b"DICM"
#: Value representations (PS3.5 6.2), which tell an explicit data element from other bytes.
_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
#: The groups that a file without preamble begins with: file meta information, and identification.
_FIRST_GROUPS = (0x0002, 0x0008)


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    ``syntax`` is its transfer syntax, and ``is_syntax_said`` whether the file says it; ``elements`` is pydicom's, and
    ``stream`` stands before the pixels.
    """

    syntax: str
    is_syntax_said: bool
    is_implicit: bool
    is_little_endian: bool
    elements: Any
    stream: _Stream

    @property
    def rows(self) -> int:
        """The picture's height."""
        return int(self.elements.Rows)

    @property
    def columns(self) -> int:
        """The picture's width."""
        return int(self.elements.Columns)

    @property
    def bits_allocated(self) -> int:
        """Bits of a pixel in the file, 8 or 16."""
        return int(self.elements.BitsAllocated)

    @property
    def bits_stored(self) -> int:
        """Those of them that hold its value."""
        return int(self.elements.BitsStored)

    @property
    def is_inverted(self) -> bool:
        """Whether the least value is white (PS3.3 C.7.6.3.1.2 and C.11.6).

        MONOCHROME1 and INVERSE say the same thing: of a digital X-ray, each asks for the other (C.8.11.3).
        """
        kind, shape = self.elements.PhotometricInterpretation, self.elements.get("PresentationLUTShape")
        return bool(kind == "MONOCHROME1" or shape == "INVERSE")

    @property
    def is_signed(self) -> bool:
        """Whether values are in two's complement."""
        return bool(self.elements.get("PixelRepresentation"))


class _Stream(io.BytesIO):
    """The file, which cannot be read for ever or, up to its pixels, in large pieces."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.in_header = True
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        is_large = size is None or not 0 <= size <= _LONGEST_VALUE
        if self._reads > _MOST_READS or (self.in_header and is_large):
            raise ValueError
        return super().read(size)


def begins_at(data: bytes) -> int | None:
    """Where the elements of a DICOM file begin, or None where the bytes are no such file.

    It may lack the preamble of 128 bytes, the sign ``DICM`` and the file meta information, as files do that were
    written before there were any, or that a network node wrote as they came.
    """
    for start in (128, 0):
        if data[start : start + 4] == _SIGN:
            return start + 4
    return None if _encoding(data, 0) is None else 0


def _encoding(data: bytes, at: int, groups: tuple[int, ...] = _FIRST_GROUPS) -> str | None:
    """The uncompressed transfer syntax that a data element is written in, or None where the bytes are none."""
    if len(data) < at + 8:
        return None
    for order, explicit in (("<", _EXPLICIT), (">", _BIG_ENDIAN)):
        group, number, representation = struct.unpack_from(f"{order}HH2s", data, at)
        # Of a group, the first elements come first; no file has more than these before the others.
        if group not in groups or number > 0x0100:
            continue
        if representation in _REPRESENTATIONS:
            return explicit
        (length,) = struct.unpack_from("<I", data, at + 4)
        if order == "<" and length % 2 == 0 and length <= min(len(data) - at - 8, 1024):
            return _IMPLICIT
    return None


def read_header(data: bytes, pydicom: ModuleType) -> Header:
    """Read everything but the pixels, and check it.

    Raises:
        ImageError: The file does not hold one greyscale image of at most 16 bits, or is compressed in a way that is not
            read.
        Exception: The file is broken.
    """
    # dcmread would inflate a deflated file of any size first.
    read = pydicom.filereader.read_dataset
    stream = _Stream(data)
    stream.seek(begins_at(data) or 0)
    said = _read_syntax(stream, data, read)
    syntax = _check_syntax(said) if said else _guess_syntax(stream, data, pydicom)
    tags = [pydicom.tag.Tag(keyword) for keyword in ELEMENTS]
    reached = []

    def at_pixels(tag: int, *_: object) -> bool:
        reached.append(tag)
        return tag >= _PIXEL_DATA or tag in _FLOAT_PIXELS

    elements = read(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=at_pixels, specific_tags=tags)
    last = reached[-1] if reached else 0
    if last in _FLOAT_PIXELS:
        raise ImageError("the DICOM file has pixels in floating point", "8 or 16 bits", EXPORT)
    if last != _PIXEL_DATA:
        raise ImageError("the DICOM file contains no image, or is truncated before it", ONE_GREY, AGAIN)
    header = Header(str(syntax), bool(said), syntax.is_implicit_VR, syntax.is_little_endian, elements, stream)
    _check(header)
    return header


def _read_syntax(stream: _Stream, data: bytes, read: Any) -> Any:
    """The transfer syntax as the file meta information has it, if there is one."""
    start = stream.tell()
    if _encoding(data, start, (0x0008,)):
        return None
    meta = read(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return meta.get("TransferSyntaxUID")


def _guess_syntax(stream: _Stream, data: bytes, pydicom: ModuleType) -> Any:
    """What the first element is written in; how pixels are compressed, it does not show."""
    found = _encoding(data, stream.tell(), (0x0008,))
    if found is None:
        raise _no_syntax()
    return pydicom.uid.UID(found)


def _no_syntax() -> ImageError:
    return ImageError("the DICOM file does not say its transfer syntax", WHOLE, AGAIN)


def _check_syntax(syntax: Any) -> Any:
    if syntax in _UNCOMPRESSED or syntax in compressed.DECODERS:
        return syntax
    # Where the standard does not know it, its name is what stands in the file.
    name = "unknown" if syntax.name == syntax else f"'{syntax.name}'"
    raise ImageError(
        f"the DICOM file's transfer syntax is {name}", _READ, f"{EXPORT}, or convert it with gdcmconv --raw"
    )


def _check(header: Header) -> None:
    elements = header.elements
    missing = [keyword for keyword in _REQUIRED if elements.get(keyword) in (None, "")]
    if missing:
        raise ImageError(f"the DICOM file does not say its {' and '.join(missing)}", WHOLE, AGAIN)
    frames = int(elements.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"the DICOM file has {frames} frames", ONE_GREY, "Save the one frame to classify")
    colour = elements.get("PhotometricInterpretation")
    if colour not in _GREY or int(elements.SamplesPerPixel) != 1:
        name = f"in colour ({colour})" if colour in _COLOURS else "not greyscale"
        raise ImageError(f"the DICOM file is {name}", ONE_GREY, EXPORT)
    if header.bits_allocated not in (8, 16):
        raise ImageError(f"the DICOM file has pixels of {header.bits_allocated} bits", "8 or 16", EXPORT)
    if not 1 <= header.bits_stored <= header.bits_allocated:
        raise contradiction(f"says that {header.bits_stored} of {header.bits_allocated} bits are stored")
    if "SharedFunctionalGroupsSequence" in elements:
        raise ImageError("the DICOM file is an enhanced one, with its window in functional groups", ONE_GREY, EXPORT)


def stored_pixels(header: Header, pydicom: ModuleType, codecs: ModuleType | None) -> Stored:
    """The pixels as they are stored, the bits of each in an unsigned number; shape (height, width).

    Args:
        header: From :func:`read_header`.
        pydicom: The library.
        codecs: imagecodecs, where the transfer syntax is a compressed one.
    """
    stream, shape = header.stream, (header.rows, header.columns)
    stream.in_header = False
    # What follows the pixels may be anything, such as zeros up to the end of a block.
    element = pydicom.filereader.read_dataset(
        stream, header.is_implicit, header.is_little_endian, stop_when=lambda tag, *_: tag != _PIXEL_DATA
    )[_PIXEL_DATA]
    if element.is_undefined_length != (codecs is not None):
        if not header.is_syntax_said:
            raise _no_syntax()
        what = "uncompressed, but its pixels are compressed" if codecs is None else "compressed, but its pixels are not"
        raise contradiction(f"says its pixels are {what}")
    if codecs is not None:
        frame = pydicom.encaps.get_frame(element.value, 0, number_of_frames=1)
        return _low_aligned(compressed.decode(frame, header, codecs), header)
    data: bytes = element.value
    if not header.is_little_endian and element.VR == "OW":
        # Pixels of 8 bits, too, are swapped in words of 16.
        data = np.frombuffer(data, "u2").byteswap().tobytes()
    kind = np.dtype(f"<u{header.bits_allocated // 8}")
    return _low_aligned(np.frombuffer(data, kind, shape[0] * shape[1]).reshape(shape), header)


def _low_aligned(pixels: Stored, header: Header) -> Stored:
    """Pixels whose values begin at bit 0, as the standard has them (PS3.5 8.1.1); ACR-NEMA let them lie higher."""
    bits, high = header.bits_stored, header.elements.get("HighBit")
    if high in (None, bits - 1):
        return pixels
    # Of what HighBit says, writers know little: what is there decides, and most readers do not ask it at all.
    numbers = pixels.view(f"i{pixels.itemsize}") if header.is_signed else pixels
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.is_signed else (0, 2**bits - 1)
    if least <= int(numbers.min()) and int(numbers.max()) <= most:
        return pixels
    shift = int(high) + 1 - bits
    if 0 < shift <= 8 * pixels.itemsize - bits and not int(np.bitwise_or.reduce(pixels, axis=None)) & (2**shift - 1):
        shifted: Stored = (pixels >> shift).astype(pixels.dtype)
        return shifted
    raise contradiction(f"says that a pixel's value is in the {bits} bits up to bit {high}, but other bits are used")
