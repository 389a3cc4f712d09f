"""DICOM files as 8-bit greyscale pictures: what a reader would see of them, and nothing of the patient.

A file is read in two steps, so that its size can be checked before a pixel is decoded. pydicom parses
it, asked for the elements that describe the picture alone; imagecodecs decodes compressed pixels. The
rest is the standard's grayscale pipeline (PS3.3 C.7.6.3, C.11.1, C.11.2) as one table from every value that
can be stored to a shade: modality LUT or rescale, VOI LUT or window, MONOCHROME1 inverted. pydicom's
own ``apply_windowing`` inverts the picture where the slope is negative, and its ``apply_voi_lut`` wraps
round in an 8-bit table of more than 256 entries.

pydicom's warnings, log records and exceptions quote the values that they are about. None of them
leaves this module: not printed, not in the text of an error, not as its cause.
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pneumo_edge import extras, native
from pneumo_edge.errors import ImageError, MissingExtraError

T = TypeVar("T")
_Values = npt.NDArray[np.float64]
_Shades = npt.NDArray[np.uint8]

_EXTRA = "dicom"
#: Transfer syntaxes that are read (PS3.5 Annex A): the uncompressed, and imagecodecs' decoder for the others.
_UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
_DECODERS = {
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
_READ = "uncompressed, JPEG, JPEG Lossless, JPEG-LS, JPEG 2000 or RLE"
#: The elements that are read beside the pixels. None of them tells of a patient.
_HEADER = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "SharedFunctionalGroupsSequence",
)  # fmt: skip
_PIXEL_DATA = 0x7FE00010
#: An X-ray's header has some hundred elements, and the longest that is read holds tables of 128 KiB each.
#: More than these, or a JPEG 2000 picture in more tiles, is an attack on time and memory.
_MOST_READS = 100_000
_LONGEST_VALUE = 2**20
_MOST_TILES = 4096
#: A greyscale picture takes one scan, and a progressive one, which DICOM does not allow, about 10.
_MOST_SCANS = 100
#: Photometric interpretations that an error may name (PS3.3 C.7.6.3.1.2); another value may be anything.
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOURS = frozenset({"PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"})
#: Where no window stretches more than 8 bits, fewer shades of the 256 than these show nothing.
_MIN_SHADES = 32

_WHOLE = "a whole DICOM file"
_AGAIN = "Copy the file again from its source"
_ONE_GREY = "a single greyscale image"
_WINDOW = "a window that maps it to 8 bits, because that decides what can be seen"
_EXPORT = "Export the X-ray as an 8-bit greyscale PNG or JPEG"


@dataclass(frozen=True)
class Picture:
    """A DICOM file of which the header has been read; ``size`` is (width, height) in pixels."""

    size: tuple[int, int]
    _syntax: Any
    _header: Any
    _stream: _Stream

    def decode(self) -> _Shades:
        """Decode the pixels and map them to shades.

        Returns:
            uint8 array of shape (height, width), 0 black and 255 white.

        Raises:
            ImageError: The pixels are truncated, corrupt or at odds with the header, or take a window
                that the file does not name; or what decodes them is not installed.
        """
        pydicom = _need("pydicom")
        codecs = _need("imagecodecs") if self._syntax in _DECODERS else None
        return _contain(lambda: _to_shades(self, pydicom, codecs))


def open_picture(data: bytes) -> Picture:
    """Read what a DICOM file says of its picture, up to the pixels.

    Args:
        data: The file, with ``DICM`` at byte 128.

    Raises:
        ImageError: The file is truncated or corrupt, does not hold one greyscale image of at most 16 bits,
            or is compressed in a way that is not read; or the extra ``dicom`` is not installed.
    """
    pydicom = _need("pydicom")
    return _contain(lambda: _read_header(data, pydicom))


def _need(module: str) -> ModuleType:
    try:
        return extras.need(module, _EXTRA)
    except MissingExtraError as error:
        # One such file among many images must not end the run.
        raise ImageError(f"this is a DICOM file, and {error.given}", error.expected, error.remedy) from error


def _contain(work: Callable[[], T]) -> T:
    """Do ``work``, and let nothing out of it but its result or an ImageError."""
    with _silence():
        try:
            return work()
        except ImageError:
            raise
        except Exception:  # the libraries promise no common base class for broken input
            pass
    # Not raised in the handler: an exception keeps the one that was being handled, and its text.
    raise ImageError("the DICOM file is truncated or corrupt", _WHOLE, _AGAIN)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard what the libraries warn of, log and print."""
    # The lock of quiet_stderr also keeps two threads from putting each other's filters back.
    with native.quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "pydicom"]
        were = {logger: logger.disabled for logger in map(logging.getLogger, names)}
        try:
            for logger in were:
                logger.disabled = True
            yield
        finally:
            for logger, was in were.items():
                logger.disabled = was


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


def _read_header(data: bytes, pydicom: ModuleType) -> Picture:
    # dcmread would inflate a deflated file, whatever its size, before it could be asked for anything.
    read = pydicom.filereader.read_dataset
    stream = _Stream(data)
    stream.seek(132)
    meta = read(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = _check_syntax(meta.get("TransferSyntaxUID"))
    reached = []

    def at_pixels(tag: int, *_: object) -> bool:
        reached.append(tag)
        return tag >= _PIXEL_DATA

    tags = [pydicom.tag.Tag(keyword) for keyword in _HEADER]
    header = read(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=at_pixels, specific_tags=tags)
    if _PIXEL_DATA not in reached:
        raise ImageError("the DICOM file holds no image, or is cut off before it", _ONE_GREY, _AGAIN)
    _check_header(header)
    return Picture((int(header.Columns), int(header.Rows)), syntax, header, stream)


def _check_syntax(syntax: Any) -> Any:
    if syntax in _UNCOMPRESSED or syntax in _DECODERS:
        return syntax
    if not syntax:
        raise ImageError("the DICOM file does not say its transfer syntax", _WHOLE, _AGAIN)
    # Where the standard does not know it, its name is what stands in the file.
    name = "unknown" if syntax.name == syntax else f"'{syntax.name}'"
    raise ImageError(
        f"the DICOM file's transfer syntax is {name}", _READ, f"{_EXPORT}, or convert it with gdcmconv --raw"
    )


def _check_header(header: Any) -> None:
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"the DICOM file has {frames} frames", _ONE_GREY, "Save the one frame to be judged")
    colour = header.get("PhotometricInterpretation")
    if colour not in _GREY or int(header.SamplesPerPixel) != 1:
        name = f"in colour ({colour})" if colour in _COLOURS else "not greyscale"
        raise ImageError(f"the DICOM file is {name}", _ONE_GREY, _EXPORT)
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if allocated not in (8, 16):
        raise ImageError(f"the DICOM file has pixels of {allocated} bits", "8 or 16", _EXPORT)
    if not 1 <= stored <= allocated or int(header.get("HighBit", stored - 1)) != stored - 1:
        raise ImageError("the DICOM file contradicts itself about the bits of a pixel", _WHOLE, _EXPORT)
    if "SharedFunctionalGroupsSequence" in header:
        raise ImageError("the DICOM file is an enhanced one, with its window in functional groups", _ONE_GREY, _EXPORT)


def _to_shades(picture: Picture, pydicom: ModuleType, codecs: ModuleType | None) -> _Shades:
    header = picture._header
    table, is_windowed = _shade_table(header, picture._syntax.is_little_endian)
    pixels = _stored_pixels(picture, pydicom, codecs)
    is_signed = bool(header.get("PixelRepresentation"))
    agrees = is_signed == (pixels.dtype.kind == "i")
    if picture._syntax in _LOSSY and agrees and len(table) < 256**pixels.itemsize:
        # A white that comes out a little whiter must not turn black.
        least = -len(table) // 2 if is_signed else 0
        pixels = pixels.astype(np.int32).clip(least, least + len(table) - 1)
    if pixels.dtype.kind == "i":
        pixels = pixels.astype(np.int16).view(np.uint16)
    if len(table) < 256**pixels.itemsize:
        # Bits above BitsStored may hold anything (PS3.5 8.1.1).
        pixels = pixels & (len(table) - 1)
    shades: _Shades = table[pixels]
    used = int(shades.max()) - int(shades.min()) + 1
    if len(table) > 256 and not is_windowed and used < _MIN_SHADES:
        raise ImageError(
            f"the DICOM file names no window, and uses {used} of 256 shades without one",
            _WINDOW,
            "Export it with the window a reader would use, as an 8-bit greyscale PNG or JPEG",
        )
    return shades


def _stored_pixels(picture: Picture, pydicom: ModuleType, codecs: ModuleType | None) -> npt.NDArray[Any]:
    """The pixels as they are stored, of shape (height, width); unsigned where only the header knows of a sign."""
    syntax, stream = picture._syntax, picture._stream
    stream.in_header = False
    element = pydicom.filereader.read_dataset(
        stream,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, *_: tag > _PIXEL_DATA,
        specific_tags=[_PIXEL_DATA],
    )[_PIXEL_DATA]
    if element.is_undefined_length != (codecs is not None):
        raise ValueError
    width, height = picture.size
    kind = np.dtype(f"u{int(picture._header.BitsAllocated) // 8}")
    if codecs is not None:
        frame = pydicom.encaps.get_frame(element.value, 0, number_of_frames=1)
        return _decompress(frame, _DECODERS[syntax], (height, width), kind, codecs)
    data: bytes = element.value
    if not syntax.is_little_endian and element.VR == "OW":
        # Pixels of 8 bits, too, are swapped in words of 16.
        data = np.frombuffer(data, "u2").byteswap().tobytes()
    return np.frombuffer(data, kind.newbyteorder("<"), width * height).reshape(height, width)


def _decompress(
    frame: bytes, decoder: str, shape: tuple[int, int], kind: np.dtype[Any], codecs: ModuleType
) -> npt.NDArray[Any]:
    decode: Callable[..., npt.NDArray[Any]] = getattr(codecs, f"{decoder}_decode")
    if decoder == "dicomrle":
        kind = kind.newbyteorder("<")
        pixels = decode(frame, kind, out=bytearray(shape[0] * shape[1] * kind.itemsize))
        return np.frombuffer(pixels, kind, shape[0] * shape[1]).reshape(shape)
    if decoder == "jpeg2k":
        _check_jpeg2k(frame, shape)
        pixels = decode(frame)
        if pixels.shape != shape or pixels.itemsize > 2:
            raise ValueError
        return pixels
    if not frame.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise ValueError  # libjpeg makes up what is missing
    return decode(frame, out=np.empty(shape, _jpeg_kind(frame, shape)))


def _jpeg_kind(frame: bytes, shape: tuple[int, int]) -> type[np.unsignedinteger[Any]]:
    """Hold a JPEG or JPEG-LS frame to the header, and tell what its samples fit into (ISO 10918-1 B.2.2)."""
    if frame.count(b"\xff\xda") > _MOST_SCANS:
        raise ValueError
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, at)
        is_frame_header = 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)
        if is_frame_header or marker == 0xFFF7:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            if (rows, columns) != shape or components != 1:
                raise ValueError
            return np.uint8 if bits <= 8 else np.uint16
        if not 0xFFC0 <= marker < 0xFFFF:
            raise ValueError
        at += 2 + length


def _check_jpeg2k(frame: bytes, shape: tuple[int, int]) -> None:
    """Hold a codestream to the header before OpenJPEG makes room for what it promises (ISO 15444-1 A.5.1)."""
    markers, _, _, *sizes, components = struct.unpack_from(">IHH8IH", frame)
    columns, rows, left, top, tile_width, tile_height, tiles_left, tiles_top = sizes
    if markers != 0xFF4FFF51 or (rows, columns) != shape or components != 1 or any((left, top, tiles_left, tiles_top)):
        raise ValueError
    if -(-columns // tile_width) * -(-rows // tile_height) > _MOST_TILES:
        raise ValueError


def _shade_table(header: Any, is_little_endian: bool) -> tuple[_Shades, bool]:
    """The standard's grayscale pipeline, for every value that can be stored.

    Returns:
        uint8 array of shape (2**BitsStored,), the shade of each pattern of bits; and whether the file
        says which values are to be seen.
    """
    bits = int(header.BitsStored)
    stored = np.arange(2**bits, dtype=np.float64)
    if header.get("PixelRepresentation"):
        stored[2 ** (bits - 1) :] -= 2**bits
    try:
        values, low, high = _apply_modality(header, stored, is_little_endian)
        shades, is_windowed = _apply_voi(header, values, low, high, is_little_endian)
        is_usable = bool(np.isfinite(shades).all())
    except (ArithmeticError, LookupError, TypeError, ValueError):
        is_usable = False
    if not is_usable:
        raise ImageError("the DICOM file's window or lookup table cannot be applied", "a valid one", _EXPORT)
    if header.PhotometricInterpretation == "MONOCHROME1":
        shades = 1 - shades
    return np.rint(255 * shades).astype(np.uint8), is_windowed


def _apply_modality(header: Any, stored: _Values, is_little_endian: bool) -> tuple[_Values, float, float]:
    """Modality LUT or rescale (PS3.3 C.11.1); also the least and the largest value that can come of it."""
    if header.get("ModalityLUTSequence"):
        values, largest = _look_up(header.ModalityLUTSequence[0], stored, is_little_endian)
        return values, 0, largest
    slope, intercept = _first(header.get("RescaleSlope")), _first(header.get("RescaleIntercept"))
    values = stored * (1 if slope is None else slope) + (intercept or 0)
    return values, float(values.min()), float(values.max())


def _apply_voi(header: Any, values: _Values, low: float, high: float, is_little_endian: bool) -> tuple[_Values, bool]:
    """VOI LUT or window, the first of several (PS3.3 C.11.2); without one, all values from black to white.

    Returns:
        Shades from 0 to 1, and whether there was one.
    """
    if header.get("VOILUTSequence"):
        shades, largest = _look_up(header.VOILUTSequence[0], values, is_little_endian)
        return np.minimum(shades / largest, 1), True
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is None or width is None:
        return (values - low) / (high - low), False
    function = header.get("VOILUTFunction") or "LINEAR"
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


def _look_up(item: Any, values: _Values, is_little_endian: bool) -> tuple[_Values, int]:
    """The entries of a lookup table for values, and the largest that its bits can hold (PS3.3 C.11.1.1.1)."""
    count, first, bits = (int(number) & 0xFFFF for number in item.LUTDescriptor)
    count = count or 2**16
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # the sign of what is looked up is also that of the first value
    data = item.LUTData
    if isinstance(data, bytes):
        # Entries of 8 bits may stand two in a word.
        kind = "u1" if bits <= 8 and len(data) < 2 * count else "<u2" if is_little_endian else ">u2"
        entries = np.frombuffer(data, kind)
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if not 1 <= bits <= 16 or len(entries) < count:
        raise ValueError
    return entries[np.clip(np.rint(values) - first, 0, count - 1).astype(np.int64)].astype(np.float64), 2**bits - 1


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else None
    return None if value is None or value == "" else float(value)
