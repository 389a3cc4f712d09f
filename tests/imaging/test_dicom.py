from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import math
import os
import struct
import subprocess
import sys
import traceback
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images
from pneumo_edge.imaging.dicom import reading

pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
imagecodecs = pytest.importorskip("imagecodecs", reason="the extra 'dicom' is not installed")

IMPLICIT, EXPLICIT, BIG = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2"))
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_1 = (f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70))
JPEG_LS, NEAR_LOSSLESS, JPEG_2000_LOSSLESS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (80, 81, 90, 91))
RLE, MPEG_2 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.100"
MARKER = "ZZYZX^PATIENT"
#: No encoder of these is at hand; pydicom's package has files of them.
SHIPPED = ("693_J2KI", "J2K_pixelrep_mismatch", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_RLE")

Stored = npt.NDArray[Any]


def _picture(bits: int = 8, size: tuple[int, int] = (96, 80), signed: bool = False) -> Stored:
    """Stored values from the least to the largest, in which no two corners are alike."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    share = (0.6 * x + 0.4 * y + 0.15 * np.sin(9 * x) * np.cos(7 * y)).clip(0, 1)
    values = np.rint(share * (2**bits - 1)).astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    stored: Stored = values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    return stored


def _lut(entries: list[int], first: int, bits: int, as_words: bool = True) -> Any:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) & 0xFFFF, first, bits])
    data = struct.pack(f"<{len(entries)}{'H' if as_words else 'B'}", *entries)
    item.add_new("LUTData", "OW", data + b"\0" * (len(data) % 2))
    return pydicom.Sequence([item])


def _encode(stored: Stored, syntax: str, bits: int) -> bytes:
    if syntax in (LOSSLESS, LOSSLESS_1):
        encoded = imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=bits, predictor=1)
    elif syntax in (BASELINE, EXTENDED):
        encoded = imagecodecs.jpeg8_encode(stored, 90, bitspersample=bits)
    elif syntax in (JPEG_LS, NEAR_LOSSLESS):
        encoded = imagecodecs.jpegls_encode(stored, 2 if syntax == NEAR_LOSSLESS else 0)
    else:
        reversible = syntax == JPEG_2000_LOSSLESS
        encoded = imagecodecs.jpeg2k_encode(
            stored, None if reversible else 60, codecformat="j2k", reversible=reversible, bitspersample=bits
        )
    return bytes(encoded)


def _dicom(stored: Stored, syntax: str = EXPLICIT, bits: int | None = None, **elements: Any) -> bytes:
    """A DICOM file of a picture; ``elements`` come on top, and None leaves one out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these files are wrong on purpose
        return _write(stored, syntax, bits, elements)


def _write(stored: Stored, syntax: str, bits: int | None, elements: dict[str, Any]) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.PatientName, dataset.PatientID, dataset.PatientComments = MARKER, MARKER, MARKER
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    word = "OW" if dataset.BitsAllocated > 8 or syntax == IMPLICIT else "OB"
    if syntax == RLE:
        encoded = pydicom.pixels.get_encoder(RLE).encode(
            stored, encoding_plugin="pydicom", rows=stored.shape[0], columns=stored.shape[1], samples_per_pixel=1,
            bits_allocated=8 * stored.itemsize, bits_stored=8 * stored.itemsize, number_of_frames=1,
            pixel_representation=dataset.PixelRepresentation, photometric_interpretation="MONOCHROME2",
        )  # fmt: skip
        dataset.add_new("PixelData", "OB", pydicom.encaps.encapsulate([encoded]))
    elif syntax not in (IMPLICIT, EXPLICIT, BIG):
        encoded = _encode(stored, syntax, dataset.BitsStored) if syntax != MPEG_2 else b"\0\0"
        dataset.add_new("PixelData", "OB", pydicom.encaps.encapsulate([encoded]))
    elif "PixelData" not in elements:
        dtype = stored.dtype.newbyteorder(">" if syntax == BIG else "<")
        dataset.add_new("PixelData", word, stored.astype(dtype).tobytes())
    if syntax not in (IMPLICIT, EXPLICIT, BIG):
        dataset["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _shades(data: bytes) -> npt.NDArray[np.int64]:
    return np.asarray(images.decode(data), np.int64)


def _refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        images.decode(data)
    error = caught.value
    assert len(str(error).splitlines()) == 1
    assert MARKER not in "".join(traceback.format_exception(error))
    return error


def _shipped(name: str) -> bytes:
    path = pydicom.data.get_testdata_file(f"{name}.dcm", download=False)
    if path is None:
        pytest.skip(f"this pydicom does not ship {name}.dcm")
    return Path(path).read_bytes()


# What is read, and that it is read right


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, RLE, LOSSLESS, LOSSLESS_1, JPEG_LS, JPEG_2000_LOSSLESS])
def test_8_bits_are_the_shades_themselves(syntax: str) -> None:
    stored = _picture()
    np.testing.assert_array_equal(_shades(_dicom(stored, syntax)), stored)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, RLE, LOSSLESS, LOSSLESS_1, JPEG_LS, JPEG_2000_LOSSLESS])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_more_bits_span_black_to_white(syntax: str, bits: int) -> None:
    stored = _picture(bits)
    expected = np.rint(stored * (255 / (2**bits - 1)))
    np.testing.assert_array_equal(_shades(_dicom(stored, syntax, bits)), expected)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, RLE, LOSSLESS, JPEG_LS])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_signed_values_span_black_to_white(syntax: str, bits: int) -> None:
    stored = _picture(bits, signed=True)
    expected = np.rint((stored.astype(np.int64) + 2 ** (bits - 1)) * (255 / (2**bits - 1)))
    as_encoded = stored.view(f"u{stored.itemsize}") & (2**bits - 1) if syntax in (LOSSLESS, JPEG_LS) else stored
    np.testing.assert_array_equal(_shades(_dicom(as_encoded, syntax, bits, PixelRepresentation=1)), expected)


def test_big_endian_words_of_8_bit_pixels_are_swapped_back() -> None:
    stored = _picture()
    swapped = stored.view(np.uint16).byteswap().tobytes()
    data = _dicom(stored, BIG)
    as_words = data.replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW").replace(stored.tobytes(), swapped)
    assert as_words != data
    np.testing.assert_array_equal(_shades(as_words), stored)


def test_the_picture_of_a_jpeg_is_that_of_the_jpeg() -> None:
    stored = _picture()
    jpeg = _encode(stored, BASELINE, 8)
    with Image.open(io.BytesIO(jpeg)) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(_shades(_dicom(stored, BASELINE)), expected)


@pytest.mark.parametrize(
    ("syntax", "bits"), [(EXTENDED, 8), (EXTENDED, 12), (NEAR_LOSSLESS, 8), (NEAR_LOSSLESS, 12), (JPEG_2000, 12)]
)
def test_lossy_compression_stays_close(syntax: str, bits: int) -> None:
    stored = _picture(bits)
    np.testing.assert_allclose(_shades(_dicom(stored, syntax, bits)), stored * (255 / (2**bits - 1)), atol=4)


def test_what_compression_makes_whiter_than_white_stays_white() -> None:
    stored = np.full((40, 40), 4095, np.uint16)
    stored[:20] = np.linspace(0, 4095, 40)
    # The codestream has room for more than the header says, as some encoders write it.
    above = np.where(stored == 4095, 4097, stored).astype(np.uint16)
    np.testing.assert_allclose(_shades(_dicom(above, NEAR_LOSSLESS, 12)), stored * (255 / 4095), atol=1)


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE])
def test_bits_above_those_stored_mean_nothing(syntax: str) -> None:
    stored = _picture(12)
    rubbish = stored | (np.random.default_rng(0).integers(0, 16, stored.shape, np.uint16) << 12)
    assert (rubbish != stored).any()
    np.testing.assert_array_equal(_shades(_dicom(rubbish, syntax, 12)), _shades(_dicom(stored, syntax, 12)))


def test_an_8_bit_jpeg_may_lie_in_words_of_16() -> None:
    stored = _picture()
    data = _dicom(stored, LOSSLESS, BitsAllocated=16)
    np.testing.assert_array_equal(_shades(data), stored)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 100, "WindowWidth": 60}])
def test_monochrome1_is_inverted(window: dict[str, Any]) -> None:
    stored = _picture()
    upright = _shades(_dicom(stored, **window))
    inverted = _shades(_dicom(stored, PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_allclose(inverted, 255 - upright, atol=1)  # halves are rounded to even either way
    assert abs(np.corrcoef(inverted.ravel(), upright.ravel())[0, 1] + 1) < 1e-3


@pytest.mark.parametrize("name", SHIPPED)
def test_the_files_of_pydicom_are_read_as_pydicom_reads_them(name: str) -> None:
    data = _shipped(name)
    dataset = pydicom.dcmread(io.BytesIO(data))
    if name.startswith("MR_small"):
        # The same picture, uncompressed.
        dataset = pydicom.dcmread(io.BytesIO(_shipped("MR_small")))
        expected = dataset.pixel_array
    else:
        # In these no plugin for pydicom is needed: Pillow has OpenJPEG, and pydicom corrects the sign.
        expected = dataset.pixel_array
    expected = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(expected, dataset), dataset)
    low, high = _output_range(dataset)
    np.testing.assert_array_equal(_shades(data), np.rint((expected - low) / (high - low) * 255))


def _output_range(dataset: Any) -> tuple[float, float]:
    """From where to where pydicom stretches a window."""
    low, high = -(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


@pytest.mark.parametrize("name", ["MR_small_implicit", "MR_small_bigendian", "MR_small_expb", "MR_small_padded"])
def test_one_picture_in_many_encodings_is_one_picture(name: str) -> None:
    np.testing.assert_array_equal(_shades(_shipped(name)), _shades(_shipped("MR_small")))


# The arithmetic, against PS3.3 C.11 value by value


def _by_the_standard(value: float, centre: float, width: float, function: str) -> float:
    """The pseudo-code of PS3.3 C.11.2.1.2 and C.11.2.1.3, for an output of 0 to 255."""
    if function == "SIGMOID":
        # No float holds more than exp(709).
        return 255 / (1 + math.exp(min(-4 * (value - centre) / width, 700)))
    if function == "LINEAR_EXACT":
        if value <= centre - width / 2:
            return 0
        if value > centre + width / 2:
            return 255
        return ((value - centre) / width + 0.5) * 255
    if value <= centre - 0.5 - (width - 1) / 2:
        return 0
    if value > centre - 0.5 + (width - 1) / 2:
        return 255
    return ((value - (centre - 0.5)) / (width - 1) + 0.5) * 255


@settings(max_examples=60)
@given(
    st.integers(1, 16), st.booleans(), st.floats(-2000, 6000), st.floats(1, 5000),
    st.sampled_from([0.5, 1, 2, -1, -0.25]), st.integers(-1024, 1024),
    st.sampled_from(["", "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)  # fmt: skip
def test_rescale_and_window_are_those_of_the_standard(
    bits: int, signed: bool, centre: float, width: float, slope: float, intercept: int, function: str
) -> None:
    stored = _picture(bits, (40, 30), signed)
    centre, width = round(centre, 3), round(width, 3)
    further = {"VOILUTFunction": function} if function else {}
    data = _dicom(
        stored, bits=bits, RescaleSlope=slope, RescaleIntercept=intercept,
        WindowCenter=[centre, 7], WindowWidth=[width, 9], **further,
    )  # fmt: skip
    expected = [_by_the_standard(slope * int(value) + intercept, centre, width, function) for value in stored.ravel()]
    _check_shades_or_refusal(data, np.reshape(expected, stored.shape), bits)


def _check_shades_or_refusal(data: bytes, expected: npt.NDArray[Any], bits: int) -> None:
    """What shows fewer than 32 shades, or than a quarter of those that its bits could show, is refused."""
    try:
        found = _shades(data)
    except ImageError as error:
        assert "of 256 shades with its window" in error.given
        # A shade that is halfway between two is rounded either way.
        assert len(np.unique(np.rint(expected))) <= min(32, max(2, 2**bits // 4)) + 1
    else:
        np.testing.assert_allclose(found, expected, atol=0.5 + 1e-6)


@settings(max_examples=40)
@given(st.integers(8, 16), st.booleans(), st.integers(-500, 4000), st.integers(2, 5000), st.sampled_from([0.5, 1, 3]))
def test_rescale_and_window_are_those_of_pydicom(
    bits: int, signed: bool, centre: int, width: int, slope: float
) -> None:
    stored = _picture(bits, (40, 30), signed)
    data = _dicom(stored, bits=bits, RescaleSlope=slope, RescaleIntercept=-100, WindowCenter=centre, WindowWidth=width)
    dataset = pydicom.dcmread(io.BytesIO(data))
    values = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset), dataset)
    low = (-(2 ** (bits - 1)) if signed else 0) * slope - 100
    expected = (values - low) / ((2**bits - 1) * slope) * 255
    _check_shades_or_refusal(data, expected, bits)


def test_a_window_of_width_1_is_a_threshold_and_of_few_bits_that_is_all_there_is() -> None:
    stored = _picture(2)
    shades = _shades(_dicom(stored, bits=2, WindowCenter=2, WindowWidth=1))
    np.testing.assert_array_equal(shades, np.where(stored > 1.5, 255, 0))
    error = _refusal(_dicom(_picture(), WindowCenter=100, WindowWidth=1))
    assert "shows 2 of 256 shades with its window" in error.given


def test_the_window_of_all_8_bits_changes_nothing() -> None:
    stored = _picture()
    np.testing.assert_array_equal(_shades(_dicom(stored, WindowCenter=128, WindowWidth=256)), stored)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize(("bits", "as_words"), [(8, True), (8, False), (10, True), (16, True)])
def test_a_voi_lut_is_looked_up(syntax: str, bits: int, as_words: bool) -> None:
    stored = _picture(12)
    # Shorter than the values' range, so that both ends are clamped, and not a straight line.
    first, count = 300, 3000
    entries = [round((i / (count - 1)) ** 0.5 * (2**bits - 1)) for i in range(count)]
    table = _lut(entries, first, bits, as_words)
    found = _shades(_dicom(stored, syntax, 12, VOILUTSequence=table, WindowCenter=5, WindowWidth=5))
    looked_up = np.array(entries)[np.clip(stored.astype(int) - first, 0, count - 1)]
    np.testing.assert_array_equal(found, np.rint(looked_up * (255 / (2**bits - 1))))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_voi_lut_may_begin_below_zero(syntax: str) -> None:
    stored = _picture(12, signed=True)
    entries = [i >> 4 for i in range(4096)]
    found = _shades(_dicom(stored, syntax, 12, VOILUTSequence=_lut(entries, -2048, 8)))
    np.testing.assert_array_equal(found, (stored.astype(int) + 2048) >> 4)


def test_a_voi_lut_may_have_all_of_65536_entries() -> None:
    stored = _picture(16)
    entries = list(range(65535, -1, -1))
    found = _shades(_dicom(stored, VOILUTSequence=_lut(entries, 0, 16)))
    np.testing.assert_array_equal(found, np.rint((65535 - stored.astype(int)) / 257))


def test_a_modality_lut_is_looked_up_before_the_window() -> None:
    stored = _picture(10)
    entries = [4095 - 4 * i for i in range(1024)]
    table = _lut(entries, 0, 12)
    table[0].ModalityLUTType = "US"
    found = _shades(_dicom(stored, bits=10, ModalityLUTSequence=table, WindowCenter=2000, WindowWidth=1000))
    expected = [_by_the_standard(entries[value], 2000, 1000, "LINEAR") for value in stored.ravel()]
    np.testing.assert_allclose(found.ravel(), expected, atol=0.5 + 1e-6)
    np.testing.assert_array_equal(
        _shades(_dicom(stored, bits=10, ModalityLUTSequence=table)), np.rint(np.array(entries)[stored] * (255 / 4095))
    )


# The same picture gives the same verdict


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = make_phantom(tmp_path_factory.mktemp("phantom") / "data", seed=4, train_per_class=3, test_per_class=1)
    return sorted(folder.rglob("*.jpeg"))


def _check_verdicts(classifier: Classifier, path: Path) -> None:
    """The verdict on a JPEG is that on its picture in every kind of DICOM that loses nothing."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L"))
        in_full = classifier.predict(image)
    expected = in_full.probabilities
    # A large JPEG is scaled by its decoder, and no other kind of file is.
    verdict = classifier.predict(path)
    assert verdict.label == in_full.label
    assert verdict.probabilities == pytest.approx(expected, abs=0 if min(grey.shape) < 560 else 0.05)
    png = io.BytesIO()
    Image.fromarray(grey).save(png, "PNG")
    deep = grey.astype(np.uint16) * 16 + 3
    for data in (
        png.getvalue(),
        _dicom(grey),
        _dicom(255 - grey, PhotometricInterpretation="MONOCHROME1"),
        _dicom(grey, RLE),
        _dicom(grey, JPEG_2000_LOSSLESS),
        _dicom(grey, LOSSLESS_1),
        _dicom(deep, bits=12, RescaleSlope=1, RescaleIntercept=-3, WindowCenter=2040.5, WindowWidth=4081),
    ):
        assert classifier.predict(data).probabilities == expected


def test_a_dicom_gets_the_verdict_of_its_picture(classifier: Classifier, phantoms: list[Path]) -> None:
    for path in phantoms:
        _check_verdicts(classifier, path)


def test_an_x_ray_gets_one_verdict_as_jpeg_and_as_dicom(classifier: Classifier, sample_pack: Path) -> None:
    paths = sorted(sample_pack.rglob("*.jpeg"))[::60]
    assert paths
    for path in paths:
        _check_verdicts(classifier, path)


# What is refused, and what is said


def _broken(**elements: Any) -> bytes:
    return _dicom(_picture(), **elements)


def _few_shades() -> Stored:
    """A dark picture with something white in it, such as a marker for the side."""
    stored = _picture(4).astype(np.uint16)
    stored[:9, :9] = 4095
    return stored


def _no_syntax() -> bytes:
    return _dicom(_picture(), RLE).replace(RLE.encode(), b"\0" * len(RLE))


_BAD: dict[str, tuple[Any, str]] = {
    "many frames": (lambda: _broken(NumberOfFrames=3), "has 3 frames"),
    "colour": (lambda: _broken(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "in colour (RGB)"),
    "palette": (lambda: _broken(PhotometricInterpretation="PALETTE COLOR"), "in colour (PALETTE COLOR)"),
    "a name as its colour": (lambda: _broken(PhotometricInterpretation=MARKER), "not greyscale"),
    "32 bits": (lambda: _broken(BitsAllocated=32), "pixels of 32 bits"),
    "1 bit": (lambda: _broken(BitsAllocated=1, BitsStored=1, HighBit=0), "pixels of 1 bits"),
    "more stored than allocated": (lambda: _broken(BitsStored=12, HighBit=11), "says that 12 of 8 bits are stored"),
    "bits elsewhere": (
        lambda: _dicom(_picture(16), bits=12, HighBit=15), "says that a pixel's value is in the 12 bits up to bit 15",
    ),
    "functional groups": (
        lambda: _broken(SharedFunctionalGroupsSequence=pydicom.Sequence([pydicom.Dataset()])), "functional groups",
    ),
    "no window": (lambda: _dicom(_few_shades(), bits=12), "has no window, and uses 3 of 256 shades"),
    "no width": (lambda: _broken(WindowCenter=7, WindowWidth=0), "window or lookup table cannot be applied"),
    "no number": (lambda: _broken(WindowCenter="nan", WindowWidth=5), "window or lookup table cannot be applied"),
    "no slope": (lambda: _broken(RescaleSlope=0, RescaleIntercept=5), "window or lookup table cannot be applied"),
    "short table": (
        lambda: _broken(VOILUTSequence=_lut([1, 2, 3], 0, 8)).replace(
            b"\x28\0\x02\x30US\x06\0\x03\0", b"\x28\0\x02\x30US\x06\0\x09\0"
        ),
        "window or lookup table cannot be applied",
    ),
    "unknown function": (
        lambda: _broken(WindowCenter=7, WindowWidth=9, VOILUTFunction="CUBIC"), "window or lookup table",
    ),
    "small": (lambda: _dicom(_picture(size=(27, 90))), "27x90 pixels"),
    "large": (lambda: _broken(Rows=10_000, Columns=10_000), "10000x10000 = 100,000,000 pixels"),
    "larger than it is": (lambda: _broken(Rows=1000), "truncated or corrupt"),
    "video": (lambda: _dicom(_picture(), MPEG_2), "transfer syntax is 'MPEG2"),
    "unknown syntax": (
        lambda: _broken().replace(EXPLICIT.encode(), b"1.2.3.4.5.6.7.8.9.1"), "transfer syntax is unknown",
    ),
    "no syntax": (_no_syntax, "does not say its transfer syntax"),
    "another syntax": (
        lambda: _dicom(_picture(), RLE).replace(RLE.encode(), EXPLICIT.encode()),
        "says its pixels are uncompressed, but its pixels are compressed",
    ),
    "no size": (lambda: _broken(Rows=None), "does not say its Rows"),
    "no pixels": (lambda: _broken(PixelData=b"").split(b"\xe0\x7f\x10\0")[0], "contains no image"),
    "no bytes of pixels": (lambda: _broken(PixelData=b""), "truncated or corrupt"),
    "only the sign": (lambda: bytes(128) + b"DICM" + bytes(99), "does not say its transfer syntax"),
    "cut pixels": (lambda: _broken()[:-100], "truncated or corrupt"),
    "cut frame": (lambda: _dicom(_picture(), LOSSLESS)[:-100], "truncated or corrupt"),
    "cut header": (lambda: _broken()[:300], "contains no image, or is truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", _BAD)
def test_a_bad_file_gets_its_own_message(name: str) -> None:
    make, found = _BAD[name]
    error = _refusal(make())
    assert found in error.given
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("examples_rgb_color", "in colour (RGB)"), ("examples_palette", "in colour (PALETTE COLOR)"),
        ("examples_ybr_color", "has 30 frames"), ("MR_truncated", "truncated or corrupt"),
        ("image_dfl", "transfer syntax is 'Deflated"), ("liver_1frame", "pixels of 1 bits"),
        ("rtdose_1frame", "pixels of 32 bits"), ("test-SR", "contains no image"), ("rtplan", "contains no image"),
        ("badVR", "truncated or corrupt"), ("waveform_ecg", "contains no image"),
    ],
)  # fmt: skip
def test_files_of_pydicom_that_cannot_be_judged_are_refused_by_name(name: str, found: str) -> None:
    assert found in _refusal(_shipped(name)).given


def test_a_deflated_file_is_not_inflated() -> None:
    data = _shipped("image_dfl")
    # The file meta information ends where its group length says (PS3.10 7.1).
    meta = data[: 144 + struct.unpack_from("<I", data, 140)[0]]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(deflate.compress(bytes(1_000_000)) for _ in range(100)) + deflate.flush()
    tracemalloc.start()
    try:
        assert "'Deflated" in _refusal(meta + bomb).given
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("syntax", "decoder", "marker", "kind"),
    [
        (BASELINE, "jpeg8", b"\xff\xc0", ">HH"), (LOSSLESS, "jpeg8", b"\xff\xc3", ">HH"),
        (JPEG_LS, "jpegls", b"\xff\xf7", ">HH"), (JPEG_2000_LOSSLESS, "jpeg2k", b"\xff\x51", ">II"),
    ],
)  # fmt: skip
def test_a_frame_of_another_size_than_the_header_says_is_not_decoded(
    syntax: str, decoder: str, marker: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Mock(wraps=getattr(imagecodecs, f"{decoder}_decode"))
    monkeypatch.setattr(imagecodecs, f"{decoder}_decode", decode)
    data = _dicom(_picture(), syntax)
    assert images.decode(data).size == (96, 80)
    place = data.index(marker)
    written = (96, 80) if kind == ">II" else (80, 96)
    assert struct.pack(kind, *written) in data[place : place + 20]
    larger = data[:place] + data[place:].replace(struct.pack(kind, *written), struct.pack(kind, 8000, 8000), 1)
    assert "says 96x80, but its compressed picture is 8000x8000" in _refusal(larger).given
    assert decode.call_count == 1


def test_a_jpeg_of_very_many_scans_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _dicom(_picture(), BASELINE)
    assert images.decode(data).size == (96, 80)
    monkeypatch.setattr("pneumo_edge.imaging.dicom.compressed._MOST_SCANS", 0)
    assert "has too many scans" in _refusal(data).given


def test_a_header_without_end_is_refused() -> None:
    start, pixels, rest = _broken().partition(b"\xe0\x7f\x10\0")
    # Empty items of a private sequence; a Dataset each would fill the memory.
    sequence = b"\x29\0\x10\x10SQ\0\0" + struct.pack("<I", 8 * 200_000) + b"\xfe\xff\0\xe0\0\0\0\0" * 200_000
    long = b"\x29\0\x10\x10SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0\0\0\0\0" * 200_000 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert "truncated or corrupt" in _refusal(start + long + pixels + rest).given
    # Where its length is told, it is stepped over.
    assert images.decode(start + sequence + pixels + rest).size == (96, 80)


# Whatever the bytes, there is an image or an ImageError


_WHOLE = {
    "explicit": functools.partial(_dicom, _picture(12), bits=12, WindowCenter=2000, WindowWidth=3000),
    "implicit": functools.partial(_dicom, _picture(12), IMPLICIT, 12, VOILUTSequence=_lut(list(range(4096)), 0, 12)),
    "big endian": functools.partial(_dicom, _picture(16), BIG, RescaleSlope=2, RescaleIntercept=-7),
    "RLE": functools.partial(_dicom, _picture(12), RLE, 12),
    "JPEG": functools.partial(_dicom, _picture(), BASELINE),
    "JPEG Lossless": functools.partial(_dicom, _picture(12), LOSSLESS_1, 12),
    "JPEG-LS": functools.partial(_dicom, _picture(12), JPEG_LS, 12),
    "JPEG 2000": functools.partial(_dicom, _picture(12), JPEG_2000_LOSSLESS, 12),
}


@pytest.mark.parametrize("kind", _WHOLE)
def test_any_damage(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = _WHOLE[kind]()
    pixels = max(whole.find(b"\xe0\x7f\x10\0"), whole.find(b"\x7f\xe0\0\x10"))
    assert images.decode(whole).size == (96, 80)

    @settings(max_examples=120)
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        content = bytearray(whole)
        # The header, the codestream's own header, and anywhere.
        place = st.one_of(
            st.integers(128, pixels), st.integers(pixels, pixels + 120), st.integers(pixels, len(content) - 1)
        )
        for _ in range(data.draw(st.integers(0, 5))):
            content[data.draw(place)] = data.draw(st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255)))
        for damaged in (bytes(content), bytes(content[: data.draw(st.integers(0, len(content)))])):
            try:
                decoded = images.decode(damaged)
            except ImageError as error:
                text = "".join(traceback.format_exception(error))
                assert MARKER not in text and MARKER.encode().hex() not in text
                assert len(str(error).splitlines()) == 1
            else:
                assert decoded.mode == "L"
                assert min(decoded.size) >= images.MIN_SIDE

    damage()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@given(st.binary(max_size=400))
def test_any_bytes_after_the_sign(data: bytes) -> None:
    with pytest.raises(ImageError):
        images.decode(bytes(128) + b"DICM" + data)


# Nothing of the patient


#: Values where pydicom warns, logs or raises with the value in its text.
_LEAKY = {
    "whole": {},
    "window": {"WindowCenter": (0x00281050, "LO", MARKER), "WindowWidth": (0x00281051, "LO", MARKER)},
    "frames": {"NumberOfFrames": (0x00280008, "LO", MARKER)},
    "rows": {"Rows": (0x00280010, "LO", MARKER)},
    "bits": {"BitsStored": (0x00280101, "LO", MARKER)},
    "colour": {"PhotometricInterpretation": (0x00280004, "LO", MARKER)},
    "character set": {"SpecificCharacterSet": (0x00080005, "LO", MARKER)},
    "slope": {"RescaleSlope": (0x00281053, "LO", MARKER)},
}


def _leaky(name: str) -> bytes:
    """A file with a name where pydicom expects something else; by hand, for pydicom would not write it."""
    data = _broken()
    for tag, _, value in _LEAKY[name].values():
        group, number = struct.pack("<H", tag >> 16), struct.pack("<H", tag & 0xFFFF)
        kind = {0x1050: b"DS", 0x1051: b"DS", 0x1053: b"DS", 0x8: b"IS", 0x10: b"IS", 0x101: b"IS"}.get(
            tag & 0xFFFF, b"CS"
        )
        text = value.encode() + b" " * (len(value) % 2)
        element = group + number + kind + struct.pack("<H", len(text)) + text
        later = data.index(b"\xe0\x7f\x10\0")
        at = data.find(group + number, 0, later)
        if at >= 0:  # in the place of the one that is there
            length = struct.unpack_from("<H", data, at + 6)[0]
            data = data[:at] + element + data[at + 8 + length :]
        else:
            data = data[:later] + element + data[later:]
    return data


@pytest.mark.parametrize("name", _LEAKY)
def test_no_error_warning_or_log_record_tells_of_the_patient(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    data = _leaky(name)
    assert MARKER.encode() in data
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            images.decode(data)
        except ImageError as error:
            assert MARKER not in "".join(traceback.format_exception(error))
            assert error.__context__ is None and error.__cause__ is None
    captured = capfd.readouterr()
    assert (captured.out, captured.err, list(warned)) == ("", "", [])
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]


def test_reading_a_file_leaves_logging_and_warnings_as_they_were() -> None:
    filters, logger = list(warnings.filters), logging.getLogger("pydicom")
    for data in (_broken(), _broken(Rows=None)):
        with contextlib.suppress(ImageError):
            images.decode(data)
        assert (list(warnings.filters), logger.disabled) == (filters, False)


def test_files_are_read_in_threads_side_by_side() -> None:
    files = [_dicom(_picture(12), syntax, 12, WindowCenter=2000, WindowWidth=900) for syntax in (EXPLICIT, RLE)] * 20
    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(_shades, files))
    for shades in found:
        np.testing.assert_array_equal(shades, found[0])
    assert list(warnings.filters) == filters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are judged and files that are not, all with a marker for a patient."""
    for name in _LEAKY:
        (tmp_path / f"{name.replace(' ', '-')}.dcm").write_bytes(_leaky(name))
    (tmp_path / "cut.dicom").write_bytes(_broken()[:-50])
    (tmp_path / "no-ending").write_bytes(_broken())
    return tmp_path


def _predict(*arguments: object, program: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", program] if program else ["-m", "pneumo_edge"]
    command = [sys.executable, "-W", "always", *start, "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("form", [None, "--json", "--csv"])
def test_the_command_line_tells_nothing_of_the_patient(classifier: Classifier, folder: Path, form: str | None) -> None:
    done = _predict(folder, *([form] if form else []))
    assert done.returncode == 4, done.stderr
    for text in (done.stdout, done.stderr):
        assert MARKER not in text
        assert "Traceback" not in text
    # A file without an ending is found by its content.
    assert "whole.dcm" in done.stdout and "no-ending" in done.stdout
    *lines, remark = done.stderr.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines)
    # What is drawn for these tests is no X-ray.
    assert remark.startswith("warning: ") and "out-of-distribution" in remark
    assert any("cut.dicom: the DICOM file is truncated or corrupt" in line for line in lines)
    assert _predict(folder / "no-ending").returncode == 0


def test_json_has_the_fields_of_any_other_image(classifier: Classifier, folder: Path) -> None:
    (image,) = json.loads(_predict(folder / "whole.dcm", "--json").stdout)["images"]
    fields = {"source", "label", "probabilities", "threshold", "timings", "total_ms"}
    remarks = {"prediction_set", "uncertain", "distance", "limit", "foreign"}
    assert set(image) == fields | remarks


# The extra


@pytest.mark.parametrize(("library", "syntax"), [("pydicom", EXPLICIT), ("imagecodecs", JPEG_2000_LOSSLESS)])
def test_a_missing_extra_is_named_and_does_not_stop_the_others(
    classifier: Classifier, tmp_path: Path, library: str, syntax: str
) -> None:
    (tmp_path / "a.dcm").write_bytes(_dicom(_picture(), syntax))
    Image.fromarray(_picture()).save(tmp_path / "b.png")
    hidden = f"import sys; sys.modules[{library!r}] = None; "
    program = hidden + "import runpy; runpy.run_module('pneumo_edge', run_name='__main__')"
    done = _predict(tmp_path, program=program)
    assert done.returncode == 4
    assert "b.png" in done.stdout
    line, remark = done.stderr.splitlines()
    assert remark.startswith("warning: ")
    assert f"this is a DICOM file, and the Python package {library} is not installed" in line
    assert line.endswith('Run: pip install "pneumo-edge[dicom]".')


def test_only_a_dicom_file_imports_what_reads_it() -> None:
    png = io.BytesIO()
    Image.fromarray(_picture()).save(png, "PNG")
    program = (
        "import sys; from pneumo_edge.imaging import images; images.decode(sys.stdin.buffer.read()); "
        "print(sorted({'pydicom', 'imagecodecs', 'pneumo_edge.imaging.dicom'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def loaded(data: bytes) -> str:
        done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, env=environment)
        return done.stdout.decode().strip()

    assert loaded(png.getvalue()) == "[]"
    assert loaded(_broken()) == "['pneumo_edge.imaging.dicom', 'pydicom']"


def test_what_is_asked_of_a_file_is_no_identity() -> None:
    tags = {pydicom.tag.Tag(keyword) for keyword in reading.ELEMENTS}
    # Patient, study, and whoever ordered it stand in other groups (PS3.6); 0028 is the picture's, 2050 says how it is
    # presented, and 5200 is of its frames.
    assert {tag.group for tag in tags} == {0x0028, 0x2050, 0x5200}
