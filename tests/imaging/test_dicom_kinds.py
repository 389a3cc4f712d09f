"""Kinds of DICOM files, each with the verdict of the picture that it holds, or the reason why it has none."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge import Classifier
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images
from tests.imaging.pictures import draw

pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
imagecodecs = pytest.importorskip("imagecodecs", reason="the extra 'dicom' is not installed")

Grey = npt.NDArray[np.uint8]
Stored = npt.NDArray[Any]

IMPLICIT, EXPLICIT, BIG = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2"))
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_1 = (f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70))
JPEG_LS, NEAR_LOSSLESS, JPEG_2000_LOSSLESS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (80, 81, 90, 91))
RLE, MPEG_2, HTJ2K, DEFLATED = (
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.1.99",
)  # fmt: skip
_RAW = (IMPLICIT, EXPLICIT, BIG)
_SYNTAXES = {
    "implicit": IMPLICIT, "explicit": EXPLICIT, "big-endian": BIG, "RLE": RLE, "JPEG Lossless": LOSSLESS,
    "JPEG Lossless SV1": LOSSLESS_1, "JPEG-LS": JPEG_LS, "JPEG 2000 Lossless": JPEG_2000_LOSSLESS,
}  # fmt: skip
_LOSSY_SYNTAXES = {
    "JPEG Baseline": BASELINE, "JPEG Extended": EXTENDED, "JPEG-LS near-lossless": NEAR_LOSSLESS,
    "JPEG 2000": JPEG_2000,
}  # fmt: skip

#: How far shades may be from those of the picture, and the probability from its verdict.
_EXACT, _ROUNDED, _LOSSY = (0, 0.0), (1, 0.05), (9, 0.05)


@dataclass(frozen=True)
class Kind:
    """How a file is made of a picture, how closely the picture is seen in it, or what is refused."""

    make: Callable[[Grey], bytes]
    tolerance: tuple[float, float] = _EXACT
    seen: Callable[[Grey], Grey] = lambda grey: grey
    refused: str = ""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Grey:
    """A picture from black to white."""
    grey = draw(tmp_path_factory.mktemp("phantom") / "data").astype(np.float64)
    stretched: Grey = np.rint((grey - grey.min()) * (255 / np.ptp(grey))).astype(np.uint8)
    return stretched


def _frame(stored: Stored, syntax: str, bits: int) -> bytes:
    if syntax in (LOSSLESS, LOSSLESS_1):
        return bytes(imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=bits, predictor=1))
    if syntax in (BASELINE, EXTENDED):
        return bytes(imagecodecs.jpeg8_encode(stored, 95, bitspersample=bits))
    if syntax in (JPEG_LS, NEAR_LOSSLESS):
        return bytes(imagecodecs.jpegls_encode(stored, 2 if syntax == NEAR_LOSSLESS else 0))
    if syntax == RLE:
        encoded: bytes = pydicom.pixels.get_encoder(RLE).encode(
            stored, encoding_plugin="pydicom", rows=stored.shape[0], columns=stored.shape[1], samples_per_pixel=1,
            bits_allocated=8 * stored.itemsize, bits_stored=8 * stored.itemsize, number_of_frames=1,
            pixel_representation=0, photometric_interpretation="MONOCHROME2",
        )  # fmt: skip
        return encoded
    return _jpeg_2000(stored, bits, syntax == JPEG_2000_LOSSLESS)


def _jpeg_2000(stored: Stored, bits: int, reversible: bool, codec: str = "j2k") -> bytes:
    level = None if reversible else 60
    return bytes(imagecodecs.jpeg2k_encode(stored, level, codecformat=codec, reversible=reversible, bitspersample=bits))


def dicom(
    stored: Stored, syntax: str = EXPLICIT, bits: int | None = None, frame: bytes | None = None, **elements: Any
) -> bytes:
    """A DICOM file of stored values; ``elements`` come on top, and None leaves one out."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *stored.shape[:2], 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(stored.dtype.kind == "i")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these files are wrong on purpose
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            elif isinstance(value, pydicom.DataElement):
                dataset.add(value)
            else:
                setattr(dataset, keyword, value)
        if syntax in (*_RAW, DEFLATED):
            ordered = stored.astype(stored.dtype.newbyteorder(">" if syntax == BIG else "<"))
            word = "OW" if stored.itemsize > 1 or syntax == IMPLICIT else "OB"
            dataset.add_new("PixelData", word, ordered.tobytes())
        else:
            frame = frame or _frame(stored, syntax, dataset.BitsStored)
            dataset.add_new("PixelData", "OB", pydicom.encaps.encapsulate([frame]))
            dataset["PixelData"].is_undefined_length = True
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _deep(grey: Grey, bits: int = 12) -> Stored:
    """The same picture in more bits, from 0 to the largest number of them."""
    deep: Stored = np.rint(grey * ((2**bits - 1) / 255)).astype(np.uint16)
    return deep


def _signed(grey: Grey, bits: int = 12) -> Stored:
    signed: Stored = (_deep(grey, bits).astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    return signed


def _padded(stored: Stored, value: int) -> Stored:
    """A border of 20 pixels that is no part of the picture."""
    framed = np.full_like(stored, value)
    framed[20:-20, 20:-20] = stored[20:-20, 20:-20]
    return framed


def _black_border(grey: Grey) -> Grey:
    return _padded(grey, 0)


def _without_padding_shade(value: int) -> Callable[[Grey], Grey]:
    """What is seen where this value is padding wherever it stands."""

    def seen(grey: Grey) -> Grey:
        framed = _padded(grey, 0)
        framed[_deep(grey) == value] = 0
        return framed

    return seen


def _lut(entries: npt.ArrayLike, bits: int, first: int = 0, as_bytes: bool = False) -> Any:
    values = np.asarray(entries)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values) & 0xFFFF, first, bits])
    item.add_new("LUTData", "OW", values.astype("u1" if as_bytes else "<u2").tobytes())
    return pydicom.Sequence([item])


def _ramp(largest: int, count: int = 4096) -> npt.NDArray[Any]:
    ramp: npt.NDArray[Any] = np.rint(np.linspace(0, largest, count))
    return ramp


def _modality(table: Any) -> Any:
    table[0].ModalityLUTType = "US"
    return table


def _in(syntax: str, bits: int = 8, stored: int | None = None) -> Callable[[Grey], bytes]:
    return lambda grey: dicom(_deep(grey, bits) if bits > 8 or stored else grey, syntax, stored or bits)


def _looked_up(largest: int) -> Callable[[Grey], bytes]:
    """With a VOI LUT that says 16 bits."""
    return lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(largest), 16))


def _trailing(syntax: str) -> Callable[[Grey], bytes]:
    return lambda grey: dicom(grey, syntax, frame=_frame(grey, syntax, 8) + b"\0\xff\0 trailing")


def _overlay(grey: Grey) -> bytes:
    """Text drawn in the bits above those of the picture."""
    stored = _deep(grey)
    stored[10:40, 10:200] |= 0xF000
    return dicom(stored, bits=12)


def _headless(keep: int, syntax: str = EXPLICIT) -> Callable[[Grey], bytes]:
    """Without the first so many bytes: the preamble, or file meta information and all."""

    def make(grey: Grey) -> bytes:
        data = dicom(_deep(grey), syntax, bits=12)
        end = 144 + struct.unpack_from("<I", data, 140)[0]
        return data[{128: 128, 132: 132}.get(keep, end) :]

    return make


def _no_syntax(grey: Grey) -> bytes:
    return dicom(grey).replace(EXPLICIT.encode(), bytes(len(EXPLICIT)))


def _said_to_be(syntax: str, stored: Stored, truly: str) -> bytes:
    data = dicom(stored, truly)
    start, end = (uid.encode().ljust(20, b"\0") for uid in (truly, syntax))
    length = 2 * -(-len(truly) // 2)
    place = data.index(truly.encode() + (b"\0" if len(truly) % 2 else b""))
    assert data[place - 2 : place] == struct.pack("<H", length), (start, end)
    return data[:place] + end[:length] + data[place + length :]


def _halved(grey: Grey) -> Grey:
    return np.right_shift(grey, np.uint8(1))


def _mono1(stored: Stored, bits: int = 12, **elements: Any) -> bytes:
    return dicom(stored, bits=bits, PhotometricInterpretation="MONOCHROME1", **elements)


def _in_colour(grey: Grey) -> bytes:
    return dicom(np.stack([grey] * 3, -1), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)


def _float_pixels(grey: Grey) -> bytes:
    data = dicom(grey, BitsAllocated=32, BitsStored=32, HighBit=31)
    return data.replace(b"\xe0\x7f\x10\0OB", b"\xe0\x7f\x08\0OF")


_WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}
_AT_16: dict[str, Any] = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 15}

KINDS: dict[str, Kind] = {
    **{f"8 bits, {name}": Kind(_in(syntax)) for name, syntax in _SYNTAXES.items()},
    **{f"12 bits, {name}": Kind(_in(syntax, 12))
       for name, syntax in _SYNTAXES.items()},
    **{f"8 bits, {name}": Kind(_in(syntax), _LOSSY)
       for name, syntax in _LOSSY_SYNTAXES.items()},
    "10 bits": Kind(lambda grey: dicom(_deep(grey, 10), bits=10)),
    "16 bits": Kind(lambda grey: dicom(_deep(grey, 16))),
    "12 bits, signed": Kind(lambda grey: dicom(_signed(grey), bits=12)),
    "16 bits, signed": Kind(lambda grey: dicom(_signed(grey, 16))),
    "12 bits, JPEG Extended": Kind(lambda grey: dicom(_deep(grey), EXTENDED, 12), _LOSSY),
    "8 bits, of which the picture uses a part": Kind(lambda grey: dicom(_halved(grey)), seen=_halved),
    # Bits
    "an 8-bit JPEG in words of 16": Kind(lambda grey: dicom(grey, LOSSLESS, BitsAllocated=16, BitsStored=8, HighBit=7)),
    "rubbish above the bits stored": Kind(lambda grey: dicom(
        _deep(grey) | (np.random.default_rng(0).integers(0, 16, grey.shape, np.uint16) << 12), bits=12)),
    "an overlay above the bits stored": Kind(_overlay),
    "values at the high end of their words": Kind(lambda grey: dicom(_deep(grey) << 4, bits=12, HighBit=15)),
    "signed values at the high end of their words": Kind(lambda grey: dicom(_signed(grey) << 4, bits=12, HighBit=15)),
    "a high bit of 15 that is not so": Kind(lambda grey: dicom(_deep(grey), bits=12, HighBit=15)),
    "a high bit of 15 that is not so, signed": Kind(lambda grey: dicom(_signed(grey), bits=12, HighBit=15)),
    "a high bit below those stored": Kind(lambda grey: dicom(_deep(grey), bits=12, HighBit=7)),
    "no high bit": Kind(lambda grey: dicom(_deep(grey), bits=12, HighBit=None)),
    "values at neither end": Kind(lambda grey: dicom(_deep(grey) << 2, bits=12, HighBit=15), refused="up to bit 15"),
    "more bits stored than allocated": Kind(lambda grey: dicom(grey, bits=12), refused="12 of 8 bits are stored"),
    "32 bits": Kind(lambda grey: dicom(grey.astype(np.uint32)), refused="pixels of 32 bits"),
    "1 bit": Kind(lambda grey: dicom(grey, BitsAllocated=1, BitsStored=1, HighBit=0), refused="pixels of 1 bits"),
    "floating point": Kind(_float_pixels, refused="pixels in floating point"),
    # Values that use fewer bits than are said to be stored, with no window
    **{f"{bits} bits in 16": Kind(_in(EXPLICIT, bits, 16), _EXACT if bits > 8 else _ROUNDED)
       for bits in (8, 9, 11, 12, 14, 15)},
    "12 bits in 16, signed": Kind(lambda grey: dicom(_signed(grey), bits=16)),
    "12 bits in signed 16, none below zero": Kind(lambda grey: dicom(_deep(grey).astype(np.int16), bits=16)),
    "12 bits in 16, rescaled": Kind(lambda grey: dicom(_deep(grey), RescaleSlope=2, RescaleIntercept=-1024)),
    "12 bits in 16, inverted": Kind(lambda grey: _mono1(4095 - _deep(grey), 16)),
    "12 bits in 16, JPEG Lossless": Kind(lambda grey: dicom(_deep(grey), LOSSLESS_1)),
    "12 bits in 16, padded with 65535": Kind(
        lambda grey: dicom(_padded(_deep(grey), 65535), PixelPaddingValue=65535), seen=_black_border),
    "12 bits in 16, dark with a white marker": Kind(lambda grey: dicom(_marked(_deep(grey))), refused="of 256 shades"),
    "black": Kind(lambda grey: dicom(np.zeros_like(_deep(grey)), bits=12), refused="uses 1 of 256 shades"),
    "white": Kind(lambda grey: dicom(np.full_like(_deep(grey), 4095), bits=12), refused="uses 1 of 256 shades"),
    "black, of 8 bits": Kind(lambda grey: dicom(np.zeros_like(grey)), refused="uses 1 of 256 shades"),
    # Windows
    "a window of everything": Kind(lambda grey: dicom(_deep(grey), bits=12, **_WINDOW), _ROUNDED),
    "a window of everything, exact": Kind(lambda grey: dicom(
        _deep(grey), bits=12, WindowCenter=2047.5, WindowWidth=4095, VOILUTFunction="LINEAR_EXACT")),
    "a window after a rescale": Kind(lambda grey: dicom(
        _deep(grey), bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=1024, WindowWidth=4096), _ROUNDED),
    "a window after a negative slope": Kind(lambda grey: dicom(
        4095 - _deep(grey), bits=12, RescaleSlope=-1, RescaleIntercept=4095, **_WINDOW), _ROUNDED),
    "12 bits in 16 with a window": Kind(lambda grey: dicom(_deep(grey), **_WINDOW), _ROUNDED),
    "two windows": Kind(lambda grey: dicom(
        _deep(grey), bits=12, WindowCenter=[2048, 9], WindowWidth=[4096, 5]), _ROUNDED),
    "a centre without a width": Kind(lambda grey: dicom(_deep(grey), bits=12, WindowCenter=2048)),
    "a window beside every value": Kind(
        lambda grey: dicom(_deep(grey), bits=12, WindowCenter=9000, WindowWidth=100), refused="shows 1 of 256 shades"),
    "a window that is far too wide": Kind(
        lambda grey: dicom(_deep(grey), bits=12, WindowCenter=2048, WindowWidth=65536), refused="of 256 shades with"),
    "a window of width 0": Kind(
        lambda grey: dicom(_deep(grey), bits=12, WindowCenter=2048, WindowWidth=0), refused="cannot be applied"),
    "a function that the standard has not": Kind(
        lambda grey: dicom(_deep(grey), bits=12, **_WINDOW, VOILUTFunction="CUBIC"), refused="cannot be applied"),
    "a slope of 0": Kind(
        lambda grey: dicom(_deep(grey), bits=12, RescaleSlope=0, RescaleIntercept=1), refused="cannot be applied"),
    # VOI LUT
    "a VOI LUT": Kind(lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(4095), 12))),
    "a VOI LUT of 16 bits": Kind(lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(65535), 16))),
    "a VOI LUT of 8 bits": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(255), 8, as_bytes=True)), _ROUNDED),
    "a VOI LUT from below zero": Kind(
        lambda grey: dicom(_signed(grey), bits=12, VOILUTSequence=_lut(_ramp(4095), 12, -2048))),
    "a VOI LUT and a window": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(4095), 12), WindowCenter=9, WindowWidth=5)),
    **{f"a VOI LUT of {used} bits that says 16": Kind(
        _looked_up(2**used - 1), _ROUNDED)
       for used in (8, 10, 12, 14, 15)},
    "a VOI LUT of 12 bits that says 16, and a window": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(4095), 16), **_WINDOW)),
    "a VOI LUT up to 3000 that says 16 bits": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(3000), 16)), _ROUNDED),
    "a VOI LUT of 12 bits that says 10": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(4095), 10))),
    "a VOI LUT of 12 bits that says 16, inverted": Kind(
        lambda grey: _mono1(4095 - _deep(grey), VOILUTSequence=_lut(_ramp(4095), 16))),
    "a VOI LUT of one entry": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut([4095] * 4096, 12)), refused="shows 1 of 256"),
    "a VOI LUT of zeros": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut([0] * 4096, 12)), refused="cannot be applied"),
    "a VOI LUT that is too short": Kind(
        lambda grey: dicom(_deep(grey), bits=12, VOILUTSequence=_lut(_ramp(4095, 100), 12)).replace(
            struct.pack("<3H", 100, 0, 12), struct.pack("<3H", 4096, 0, 12)), refused="cannot be applied"),
    # Modality LUT
    "a modality LUT": Kind(lambda grey: dicom(
        _deep(grey), bits=12, ModalityLUTSequence=_modality(_lut(_ramp(65535), 16)))),
    "a modality LUT of 12 bits that says 16": Kind(lambda grey: dicom(
        _deep(grey), bits=12, ModalityLUTSequence=_modality(_lut(_ramp(4095), 16)))),
    "a modality LUT before a window": Kind(lambda grey: dicom(
        _deep(grey), bits=12, ModalityLUTSequence=_modality(_lut(_ramp(4095)[::-1], 12)),
        PhotometricInterpretation="MONOCHROME1", **_WINDOW), _ROUNDED),
    # MONOCHROME1 and padding
    "inverted": Kind(lambda grey: _mono1(4095 - _deep(grey))),
    "inverted, of 8 bits": Kind(lambda grey: _mono1(255 - grey, 8)),
    "inverted, with a window": Kind(lambda grey: _mono1(4095 - _deep(grey), **_WINDOW), _ROUNDED),
    "inverted by its presentation LUT's shape": Kind(
        lambda grey: dicom(4095 - _deep(grey), bits=12, PresentationLUTShape="INVERSE")),
    "inverted by its presentation LUT's shape, with a window": Kind(
        lambda grey: dicom(4095 - _deep(grey), bits=12, PresentationLUTShape="INVERSE", **_WINDOW), _ROUNDED),
    "inverted by its presentation LUT's shape, implicit, of 8 bits": Kind(
        lambda grey: dicom(255 - grey, IMPLICIT, PresentationLUTShape="INVERSE")),
    "inverted by its presentation LUT's shape, padded with 0": Kind(
        lambda grey: dicom(
            _padded(4095 - _deep(grey), 0), bits=12, PixelPaddingValue=0, PresentationLUTShape="INVERSE"),
        seen=_without_padding_shade(4095)),
    "inverted by either, said by both": Kind(lambda grey: _mono1(4095 - _deep(grey), PresentationLUTShape="INVERSE")),
    "inverted, with the identity for its presentation": Kind(
        lambda grey: _mono1(4095 - _deep(grey), PresentationLUTShape="IDENTITY")),
    "not inverted, with the identity for its presentation": Kind(
        lambda grey: dicom(_deep(grey), bits=12, PresentationLUTShape="IDENTITY")),
    "inverted, padded with 0": Kind(
        lambda grey: _mono1(_padded(4095 - _deep(grey), 0), PixelPaddingValue=0), seen=_without_padding_shade(4095)),
    "inverted, padded with 0, with a window": Kind(
        lambda grey: _mono1(_padded(4095 - _deep(grey), 0), PixelPaddingValue=0, **_WINDOW), _ROUNDED,
        _without_padding_shade(4095)),
    "inverted, padded with 4095": Kind(
        lambda grey: _mono1(_padded(4095 - _deep(grey), 4095), PixelPaddingValue=4095), seen=_black_border),
    "inverted, padded with 0 to 15": Kind(
        lambda grey: _mono1(_padded(4095 - _deep(grey), 9), **_AT_16), seen=_without_padding_shade(4095)),
    "padded with 0": Kind(
        lambda grey: dicom(_padded(_deep(grey), 0), bits=12, PixelPaddingValue=0), seen=_black_border),
    "padded with 4095": Kind(
        lambda grey: dicom(_padded(_deep(grey), 4095), bits=12, PixelPaddingValue=4095),
        seen=_without_padding_shade(4095)),
    "padded with 4095, implicit": Kind(
        lambda grey: dicom(_padded(_deep(grey), 4095), IMPLICIT, 12, PixelPaddingValue=4095),
        seen=_without_padding_shade(4095)),
    "padded with 255, of 8 bits": Kind(
        lambda grey: dicom(_padded(grey, 255), PixelPaddingValue=255), seen=_without_padding_shade(4095)),
    "signed, padded beyond the bits stored": Kind(
        lambda grey: dicom(_padded(_signed(grey), -32768), bits=12, PixelPaddingValue=-32768), seen=_black_border),
    "signed, padded in the other representation": Kind(
        lambda grey: dicom(_padded(_signed(grey), -2048), bits=12,
                           PixelPaddingValue=pydicom.DataElement(0x00280120, "US", 63488)), seen=_black_border),
    "padded with 4095, JPEG Lossless": Kind(
        lambda grey: dicom(_padded(_deep(grey), 4095), LOSSLESS_1, 12, PixelPaddingValue=4095),
        seen=_without_padding_shade(4095)),
    "nothing but padding": Kind(
        lambda grey: dicom(np.zeros_like(_deep(grey)), bits=12, PixelPaddingValue=0), refused="uses 0 of 256 shades"),
    # Around the data
    "no preamble": Kind(_headless(128)),
    "no preamble and no sign": Kind(_headless(132)),
    "no file meta information, explicit": Kind(_headless(0)),
    "no file meta information, implicit": Kind(_headless(0, IMPLICIT)),
    "no file meta information, big-endian": Kind(_headless(0, BIG)),
    "no file meta information, compressed": Kind(_headless(0, RLE), refused="does not say its transfer syntax"),
    "no transfer syntax": Kind(_no_syntax),
    "zeros behind the data": Kind(lambda grey: dicom(_deep(grey), bits=12) + bytes(2_000_000)),
    "rubbish behind the data": Kind(lambda grey: dicom(_deep(grey), bits=12) + b"rubbish" * 99),
    "more pixels than its size": Kind(lambda grey: dicom(_deep(grey), bits=12, Rows=200), seen=lambda grey: grey[:200]),
    "another ending of its frame": Kind(lambda grey: dicom(grey, BASELINE, frame=_frame(grey, BASELINE, 8) + b"\0x"),
                                        _LOSSY),
    **{f"trailing bytes in its frame, {name}": Kind(
        _trailing(syntax))
       for name, syntax in _SYNTAXES.items() if syntax not in _RAW},
    "JP2 boxes": Kind(lambda grey: dicom(
        _deep(grey), JPEG_2000_LOSSLESS, 12, frame=_jpeg_2000(_deep(grey), 12, True, "jp2"))),
    "JP2 boxes, lossy": Kind(lambda grey: dicom(
        grey, JPEG_2000, frame=_jpeg_2000(grey, 8, False, "jp2")), _LOSSY),
    # What contradicts itself, is cut off, or is something else
    "a frame of another size": Kind(
        lambda grey: dicom(grey, LOSSLESS, Rows=300),
        refused="says 240x300, but its compressed picture is 240x226"),
    "a frame in colour": Kind(
        lambda grey: dicom(grey, BASELINE, frame=bytes(imagecodecs.jpeg8_encode(np.stack([grey] * 3, -1), 95))),
        refused="says greyscale, but its compressed picture has 3 channels"),
    "a frame of another codec": Kind(
        lambda grey: dicom(grey, LOSSLESS, frame=_frame(grey, JPEG_2000_LOSSLESS, 8)), refused="another compression"),
    "JPEG-LS said to be JPEG": Kind(
        lambda grey: dicom(grey, LOSSLESS, frame=_frame(grey, JPEG_LS, 8)), refused="says one kind of JPEG"),
    "JPEG said to be JPEG 2000": Kind(
        lambda grey: dicom(grey, JPEG_2000, frame=_frame(grey, LOSSLESS, 8)), refused="another compression"),
    "compressed, said to be uncompressed": Kind(
        lambda grey: _said_to_be(EXPLICIT, grey, RLE), refused="uncompressed, but its pixels are compressed"),
    "uncompressed, said to be compressed": Kind(
        lambda grey: _said_to_be(RLE, grey, EXPLICIT), refused="compressed, but its pixels are not"),
    "a frame that is cut off": Kind(
        lambda grey: dicom(grey, LOSSLESS, frame=_frame(grey, LOSSLESS, 8)[:-3000]), refused="JPEG is truncated"),
    "pixels that are cut off": Kind(lambda grey: dicom(_deep(grey), bits=12)[:-5000], refused="truncated or corrupt"),
    "a header that is cut off": Kind(lambda grey: dicom(grey)[:300], refused="contains no image, or is truncated"),
    "no size": Kind(lambda grey: dicom(grey, Rows=None), refused="does not say its Rows"),
    "no bits": Kind(lambda grey: dicom(grey, BitsStored=None), refused="does not say its BitsStored"),
    "colour": Kind(_in_colour, refused="in colour (RGB)"),
    "a palette": Kind(lambda grey: dicom(grey, PhotometricInterpretation="PALETTE COLOR"), refused="PALETTE COLOR"),
    "several frames": Kind(lambda grey: dicom(np.concatenate([grey, grey]), Rows=226, NumberOfFrames=2),
                           refused="has 2 frames"),
    "functional groups": Kind(
        lambda grey: dicom(grey, SharedFunctionalGroupsSequence=pydicom.Sequence([pydicom.Dataset()])),
        refused="functional groups"),
    "video": Kind(lambda grey: dicom(grey, MPEG_2, frame=b"\0\0"), refused="transfer syntax is 'MPEG2"),
    "HTJ2K": Kind(lambda grey: dicom(grey, HTJ2K, frame=b"\0\0"), refused="transfer syntax is 'High"),
    "deflated": Kind(lambda grey: dicom(grey, DEFLATED), refused="transfer syntax is 'Deflated"),
    "a strip": Kind(lambda grey: dicom(grey[:20]), refused="240x20 pixels"),
}  # fmt: skip


def _marked(stored: Stored) -> Stored:
    stored = stored.copy()
    stored[5:25, 5:25] = 65535
    return stored


def _verdict(classifier: Classifier, picture: Any) -> float:
    return classifier.predict(picture).probabilities["PNEUMONIA"]


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.refused])
def test_a_file_has_the_verdict_of_its_picture(name: str, classifier: Classifier, base: Grey) -> None:
    kind = KINDS[name]
    data, expected = kind.make(base), kind.seen(base)
    of_shades, of_probability = kind.tolerance
    shades = np.asarray(images.decode(data), int)
    assert shades.shape == expected.shape
    assert np.abs(shades - expected).max() <= of_shades
    assert _verdict(classifier, data) == pytest.approx(_verdict(classifier, expected), abs=of_probability)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.refused])
def test_a_file_is_refused_by_its_name(name: str, classifier: Classifier, base: Grey) -> None:
    with pytest.raises(ImageError) as caught:
        classifier.predict(KINDS[name].make(base))
    assert KINDS[name].refused in caught.value.given
    assert len(str(caught.value).splitlines()) == 1


def test_pictures_that_must_not_be_seen_have_another_verdict(classifier: Classifier, base: Grey) -> None:
    verdict = _verdict(classifier, base)
    for other in (255 - base, base // 16, np.full_like(base, 255)):
        assert abs(_verdict(classifier, other) - verdict) > 2 * _LOSSY[1]
    assert np.abs(255 - base.astype(int) - base).mean() > 5 * _LOSSY[0]


#: Kinds whose values pydicom, too, takes all the way to shades. It knows no padding, scales nothing, and inverts the
#: picture where a slope is negative.
_AS_PYDICOM = (
    "12 bits, explicit", "12 bits, implicit", "12 bits, big-endian", "12 bits, RLE", "12 bits, signed",
    "a window of everything", "a window after a rescale", "two windows",
    "a VOI LUT", "a VOI LUT of 16 bits", "a VOI LUT from below zero", "a modality LUT", "no preamble",
    "no file meta information, implicit", "a high bit of 15 that is not so", "zeros behind the data",
)  # fmt: skip


@pytest.mark.parametrize("name", _AS_PYDICOM)
def test_shades_are_those_of_pydicom(name: str, base: Grey) -> None:
    data = KINDS[name].make(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = data[4:] if data.startswith(b"DICM") else data
        dataset = pydicom.dcmread(io.BytesIO(source), force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = IMPLICIT
        values = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
        values = pydicom.pixels.apply_voi_lut(values, dataset).astype(np.float64)
    expected = (values - values.min()) * (255 / np.ptp(values))
    np.testing.assert_allclose(np.asarray(images.decode(data)), expected, atol=1)
