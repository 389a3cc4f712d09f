"""Kinds of image files, each with the verdict of the picture that it holds, or the reason why it has none."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from pneumo_edge import Classifier
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images
from tests.imaging.pictures import draw, turned

Grey = npt.NDArray[np.uint8]
#: How far a probability may be from that of the picture: exact where nothing is lost, and where an encoder loses some.
_EXACT, _LOSSY = 1e-9, 0.05
#: The same for shades, on average; and of the picture that is to be told from it.
_SHADES = {_EXACT: 0.0, _LOSSY: 2.5}


@dataclass(frozen=True)
class Kind:
    """How a file is made of a picture, what of the picture is to be seen in it, and how exactly; or what is refused."""

    make: Callable[[Grey], bytes]
    tolerance: float = _EXACT
    seen: Callable[[Grey], Grey] = lambda grey: grey
    refused: str = ""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Grey:
    drawn: Grey = draw(tmp_path_factory.mktemp("phantom") / "data")
    return drawn


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _as(mode: str, kind: str, **options: Any) -> Callable[[Grey], bytes]:
    return lambda grey: _save(Image.fromarray(grey).convert(mode), kind, **options)


def _other(grey: Grey) -> Image.Image:
    """Another picture, of which nothing may be seen."""
    return Image.fromarray(255 - grey).rotate(180)


def _frames(kind: str, **options: Any) -> Callable[[Grey], bytes]:
    return lambda grey: _save(Image.fromarray(grey), kind, save_all=True, append_images=[_other(grey)], **options)


def _palette(grey: Grey) -> bytes:
    """Shades in an order of their own."""
    image = Image.fromarray(255 - grey).copy()
    image.putpalette([255 - level for level in range(256) for _ in range(3)])
    return _save(image, "PNG")


def _with_alpha(mode: str, kind: str, **options: Any) -> Callable[[Grey], bytes]:
    def make(grey: Grey) -> bytes:
        image = Image.fromarray(grey).convert(mode)
        image.putalpha(_other(grey))
        return _save(image, kind, exact=True, **options) if kind == "WEBP" else _save(image, kind, **options)

    return make


def _turned(orientation: int, kind: str, **options: Any) -> Callable[[Grey], bytes]:
    def make(grey: Grey) -> bytes:
        image, exif = turned(grey, orientation)
        return _save(image, kind, exif=exif, **options)

    return make


def _quantized(levels: int) -> Callable[[Grey], Grey]:
    return lambda grey: np.rint(np.rint(grey * ((levels - 1) / 255)) * (255 / (levels - 1))).astype(np.uint8)


def _png(grey: Grey, bits: int, colour: int = 0, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """A PNG by hand, of ``bits`` a channel, with further chunks before its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = grey.shape
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    if bits == 16:
        rows = np.repeat(grey.astype(">u2")[..., np.newaxis] * 257, channels, -1).reshape(height, -1).view(np.uint8)
    else:
        levels = np.rint(grey * ((2**bits - 1) / 255)).astype(np.uint8)
        rows = np.packbits(np.unpackbits(levels[..., np.newaxis], axis=-1)[..., 8 - bits :].reshape(height, -1), axis=1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    all_chunks = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in all_chunks)


def _tiff(grey: Grey, white_is_zero: bool = False, order: str = "<", bits: int = 8) -> bytes:
    """A TIFF by hand, uncompressed in one strip, for what Pillow does not write."""
    height, width = grey.shape
    data = (
        (255 - grey if white_is_zero else grey).tobytes() if bits == 8 else (grey.astype(f"{order}u2") * 257).tobytes()
    )
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, int(not white_is_zero)), (273, 8),
               (277, 1), (278, height), (279, len(data))]  # fmt: skip
    directory = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
    sign = b"II*\0" if order == "<" else b"MM\0*"
    place = struct.pack(f"{order}I", 8 + len(data))
    return sign + place + data + struct.pack(f"{order}H", len(entries)) + directory + bytes(4)


def _mpo(grey: Grey) -> bytes:
    return _save(Image.fromarray(grey), "MPO", save_all=True, append_images=[_other(grey)], quality=95)


def _broken_mpo(grey: Grey) -> bytes:
    """The index of the pictures says nothing that makes sense."""
    data = _mpo(grey)
    at = data.index(b"MPF\0") + 4
    return data[:at] + b"II*\0" + b"\xff" * 40 + data[at + 44 :]


def _with_thumbnail(grey: Grey) -> bytes:
    """EXIF data with a smaller picture in it."""
    small = _save(_other(grey).resize((64, 64)), "JPEG")
    exif = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 14) + small
    data = _save(Image.fromarray(grey), "JPEG", quality=95)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def _shorter(make: Callable[[Grey], bytes], share: float) -> Callable[[Grey], bytes]:
    def cut(grey: Grey) -> bytes:
        data = make(grey)
        return data[: int(len(data) * share)]

    return cut


def _longer(make: Callable[[Grey], bytes], what: bytes = b"\0trailing bytes" * 9) -> Callable[[Grey], bytes]:
    return lambda grey: make(grey) + what


def _wide(make: Callable[[npt.NDArray[Any]], Image.Image], kind: str) -> Callable[[Grey], bytes]:
    return lambda grey: _save(make(grey), kind)


_JPEG, _PNG = _as("L", "JPEG", quality=95), _as("L", "PNG")
_DEEP, _SEVERAL, _CUT, _NONE = "more than 8 bits per channel", "several frames", "truncated or corrupt", "not an image"

KINDS: dict[str, Kind] = {
    # JPEG
    "JPEG grey": Kind(_JPEG, _LOSSY),
    "JPEG colour": Kind(_as("RGB", "JPEG", quality=95), _LOSSY),
    "JPEG colour without subsampling": Kind(_as("RGB", "JPEG", quality=95, subsampling=0), _LOSSY),
    "JPEG progressive": Kind(_as("L", "JPEG", quality=95, progressive=True), _LOSSY),
    "JPEG colour, progressive": Kind(_as("RGB", "JPEG", quality=95, progressive=True), _LOSSY),
    "JPEG with a restart interval": Kind(_as("L", "JPEG", quality=95, restart_marker_rows=1), _LOSSY),
    "JPEG with a comment": Kind(_as("L", "JPEG", quality=95, comment=b"\xff\xd9 a comment"), _LOSSY),
    "JPEG with a thumbnail": Kind(_with_thumbnail, _LOSSY),
    "JPEG with trailing bytes": Kind(_longer(_JPEG), _LOSSY),
    "JPEG with another JPEG behind it": Kind(lambda grey: _JPEG(grey) + _save(_other(grey), "JPEG"), _LOSSY),
    "MPO": Kind(_mpo, _LOSSY),
    "MPO turned by EXIF": Kind(lambda grey: _save(
        Image.fromarray(np.rot90(grey).copy()), "MPO", save_all=True, append_images=[_other(grey)], quality=95,
        exif=_exif(6)), _LOSSY),
    "MPO with a broken index": Kind(_broken_mpo, _LOSSY),
    "JPEG CMYK": Kind(_as("CMYK", "JPEG"), refused="in the colour space CMYK"),
    "JPEG cut in the middle": Kind(_shorter(_JPEG, 0.5), refused=_CUT),
    "JPEG cut in its header": Kind(_shorter(_JPEG, 0.01), refused=_NONE),
    "MPO cut in its first picture": Kind(_shorter(_mpo, 0.3), refused=_CUT),
    # PNG
    "PNG grey": Kind(_PNG),
    "PNG colour": Kind(_as("RGB", "PNG")),
    "PNG of 1 bit": Kind(lambda grey: _png(grey, 1), seen=_quantized(2)),
    "PNG of 2 bits": Kind(lambda grey: _png(grey, 2), seen=_quantized(4)),
    "PNG of 4 bits": Kind(lambda grey: _png(grey, 4), seen=_quantized(16)),
    "PNG with a palette": Kind(_palette),
    "PNG grey with alpha": Kind(_with_alpha("L", "PNG")),
    "PNG colour with alpha": Kind(_with_alpha("RGB", "PNG")),
    "PNG with a transparent shade": Kind(lambda grey: _png(grey, 8, 0, (b"tRNS", b"\0\x80"))),
    "PNG with a transparent palette": Kind(lambda grey: _save(Image.open(io.BytesIO(_palette(grey))), "PNG",
                                                              transparency=bytes(256))),
    "PNG with gamma, text and time": Kind(lambda grey: _png(
        grey, 8, 0, (b"gAMA", struct.pack(">I", 100_000)), (b"tEXt", b"Title\0x"),
        (b"tIME", bytes([7, 208, 1, 1, 0, 0, 0])))),
    "PNG with trailing bytes": Kind(_longer(_PNG)),
    "PNG with an animation of one frame": Kind(lambda grey: _png(
        grey, 8, 0, (b"acTL", struct.pack(">II", 1, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, *grey.shape[::-1], 0, 0, 1, 1, 0, 0)))),
    "APNG": Kind(_frames("PNG"), refused=_SEVERAL),
    "PNG of 16 bits": Kind(lambda grey: _png(grey, 16), refused=_DEEP),
    "PNG colour of 16 bits": Kind(lambda grey: _png(grey, 16, 2), refused=_DEEP),
    "PNG grey with alpha of 16 bits": Kind(lambda grey: _png(grey, 16, 4), refused=_DEEP),
    "PNG cut in the middle": Kind(_shorter(_PNG, 0.5), refused=_CUT),
    # TIFF
    "TIFF grey": Kind(_as("L", "TIFF")),
    "TIFF colour": Kind(_as("RGB", "TIFF")),
    "TIFF with alpha": Kind(_with_alpha("RGB", "TIFF")),
    "TIFF with a palette": Kind(_as("P", "TIFF")),
    "TIFF of 1 bit": Kind(
        _as("1", "TIFF"), seen=lambda grey: np.asarray(Image.fromarray(grey).convert("1").convert("L"))),
    "TIFF big-endian": Kind(lambda grey: _tiff(grey, order=">")),
    "TIFF where white is zero": Kind(lambda grey: _tiff(grey, white_is_zero=True)),
    "TIFF with LZW": Kind(_as("L", "TIFF", compression="tiff_lzw")),
    "TIFF with deflate": Kind(_as("L", "TIFF", compression="tiff_adobe_deflate")),
    "TIFF with PackBits": Kind(_as("L", "TIFF", compression="packbits")),
    "TIFF with JPEG": Kind(_as("L", "TIFF", compression="jpeg", quality=95), _LOSSY),
    "TIFF with trailing bytes": Kind(_longer(_as("L", "TIFF"))),
    "TIFF of several pages": Kind(_frames("TIFF"), refused=_SEVERAL),
    "TIFF CMYK": Kind(_as("CMYK", "TIFF"), refused="in the colour space CMYK"),
    "TIFF LAB": Kind(lambda grey: _save(Image.fromarray(grey).convert("RGB").convert("LAB"), "TIFF"),
                     refused="in the colour space LAB"),
    "TIFF of 16 bits": Kind(lambda grey: _tiff(grey, bits=16), refused=_DEEP),
    "TIFF of 16 bits, big-endian": Kind(lambda grey: _tiff(grey, bits=16, order=">"), refused=_DEEP),
    "TIFF of 32 bits": Kind(_wide(lambda grey: Image.fromarray(grey.astype(np.int32)), "TIFF"), refused=_DEEP),
    "TIFF in floating point": Kind(_wide(lambda grey: Image.fromarray(grey.astype(np.float32)), "TIFF"), refused=_DEEP),
    "TIFF cut in the middle": Kind(_shorter(_as("L", "TIFF"), 0.5), refused=_CUT),
    "TIFF with LZW, damaged": Kind(
        lambda grey: _damaged(_as("L", "TIFF", compression="tiff_lzw")(grey)), refused=_CUT),
    # BMP, GIF, WebP
    "BMP grey": Kind(_as("L", "BMP")),
    "BMP colour": Kind(_as("RGB", "BMP")),
    "BMP with a palette": Kind(_as("P", "BMP")),
    "BMP with alpha": Kind(_with_alpha("RGB", "BMP")),
    "BMP with trailing bytes": Kind(_longer(_as("L", "BMP"))),
    "BMP cut in the middle": Kind(_shorter(_as("L", "BMP"), 0.5), refused=_CUT),
    "GIF": Kind(_as("L", "GIF")),
    "GIF interlaced": Kind(_as("L", "GIF", interlace=True)),
    "GIF with a transparent shade": Kind(_as("L", "GIF", transparency=3)),
    "GIF with trailing bytes": Kind(_longer(_as("L", "GIF"))),
    "GIF of several frames": Kind(_frames("GIF"), refused=_SEVERAL),
    "GIF cut in the middle": Kind(_shorter(_as("L", "GIF"), 0.5), refused=_CUT),
    "WebP without loss": Kind(_as("RGB", "WEBP", lossless=True)),
    "WebP": Kind(_as("RGB", "WEBP", quality=95), _LOSSY),
    "WebP with alpha": Kind(_with_alpha("RGB", "WEBP", lossless=True)),
    "WebP of several frames": Kind(_frames("WEBP", lossless=True), refused=_SEVERAL),
    "WebP cut in the middle": Kind(_shorter(_as("RGB", "WEBP"), 0.5), refused=_NONE),
    # What no decoder is asked to read
    "PPM": Kind(_as("RGB", "PPM"), refused=_NONE),
    "PGM of 16 bits": Kind(lambda grey: b"P5 240 226 65535\n" + grey.astype(">u2").tobytes(), refused=_NONE),
    "TGA": Kind(_as("L", "TGA"), refused=_NONE),
    "ICO": Kind(_as("L", "ICO"), refused=_NONE),
    "JPEG 2000": Kind(_as("L", "JPEG2000"), refused=_NONE),
    "PDF": Kind(_as("L", "PDF"), refused=_NONE),
    "text": Kind(lambda grey: b"This is a letter.", refused=_NONE),
    "zeros": Kind(lambda grey: bytes(grey.size), refused=_NONE),
    "pixels without a header": Kind(lambda grey: grey.tobytes(), refused=_NONE),
    "a strip": Kind(lambda grey: _PNG(grey[:20]), refused="240x20 pixels"),
    "more pixels than any detector has": Kind(
        lambda grey: _png(np.zeros((7072, 7072), np.uint8), 1), refused="50,013,184 pixels"),
    # Turned upright
    **{f"JPEG turned by EXIF {turn}": Kind(_turned(turn, "JPEG", quality=95), _LOSSY) for turn in range(1, 9)},
    **{f"PNG turned by EXIF {turn}": Kind(_turned(turn, "PNG")) for turn in (3, 6)},
    **{f"TIFF turned by EXIF {turn}": Kind(_turned(turn, "TIFF")) for turn in (2, 8)},
    **{f"WebP turned by EXIF {turn}": Kind(_turned(turn, "WEBP", lossless=True)) for turn in (4, 5)},
}  # fmt: skip


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\xff" * 500 + data[middle + 500 :]


def test_the_picture_can_be_told_from_others(classifier: Classifier, base: Grey) -> None:
    verdict = _verdict(classifier, base)
    for other in (255 - base, np.flipud(base), np.fliplr(base), np.asarray(_other(base))):
        assert np.abs(other.astype(int) - base).mean() > 5 * _SHADES[_LOSSY]
    assert max(abs(verdict - _verdict(classifier, each)) for each in (255 - base, np.asarray(_other(base)))) > _LOSSY


def _verdict(classifier: Classifier, picture: Any) -> float:
    return classifier.predict(picture).probabilities["PNEUMONIA"]


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.refused])
def test_a_file_has_the_verdict_of_its_picture(name: str, classifier: Classifier, base: Grey) -> None:
    kind = KINDS[name]
    data, expected = kind.make(base), kind.seen(base)
    decoded = np.asarray(images.decode(data), int)
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).mean() <= _SHADES[kind.tolerance]
    assert _verdict(classifier, data) == pytest.approx(_verdict(classifier, expected), abs=kind.tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        by_pillow = np.asarray(ImageOps.exif_transpose(image).convert("L"), int)
    assert np.abs(decoded - by_pillow).max() == 0


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.refused])
def test_a_file_is_refused_by_its_name(name: str, classifier: Classifier, base: Grey) -> None:
    with pytest.raises(ImageError) as caught:
        classifier.predict(KINDS[name].make(base))
    assert KINDS[name].refused in caught.value.given
    assert len(str(caught.value).splitlines()) == 1


def test_the_ending_of_the_name_says_nothing(classifier: Classifier, base: Grey, tmp_path: Path) -> None:
    path = tmp_path / "x-ray.tiff"
    path.write_bytes(_PNG(base))
    assert _verdict(classifier, path) == _verdict(classifier, base)
