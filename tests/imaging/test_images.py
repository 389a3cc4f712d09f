from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images
from tests.imaging.pictures import turned


def _pattern(mode: str = "L", size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A smooth image in which no two corners are alike."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [40 + 180 * x * y, 200 - 150 * x, 20 + 200 * y, 255 - 60 * x]
    rgba = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8), "RGBA")
    return rgba.convert("RGB").convert(mode) if mode != "RGBA" else rgba


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _png(
    width: int, height: int, bit_depth: int, colour_type: int, rows: bytes, *further: tuple[bytes, bytes]
) -> bytes:
    """A PNG file by hand, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *further, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


def _huge_png(side: int) -> bytes:
    """A black and white square of a few kilobytes or less, with too little data to be whole."""
    return _png(side, side, 1, 0, bytes(side * 9))


def _refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        images.decode(data)
    return caught.value


# What is read, and that it is read right


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"),
        ("L", "JPEG"), ("RGB", "JPEG"), ("L", "BMP"), ("P", "BMP"), ("RGB", "BMP"), ("1", "BMP"),
        ("1", "TIFF"), ("L", "TIFF"), ("LA", "TIFF"), ("P", "TIFF"), ("RGB", "TIFF"), ("RGBA", "TIFF"),
        ("L", "WEBP"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("L", "GIF"), ("P", "GIF"),
    ],
)  # fmt: skip
def test_every_mode_is_read_as_pillow_reads_it(mode: str, kind: str) -> None:
    data = _encode(_pattern(mode), kind)
    # The whole preprocessing, written once more: what is documented, in the fewest words.
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("L").resize((224, 224), Image.Resampling.BILINEAR))
    pixels = images.load(data, 224, 224)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], expected)


def test_real_x_rays_are_read_as_pillow_reads_them(sample_pack: Path) -> None:
    _check_against_pillow(sorted(sample_pack.rglob("*.jpeg"))[::20])


def test_x_rays_as_first_published_are_read_as_pillow_reads_them(shared_data: Path) -> None:
    _check_against_pillow(sorted((shared_data / "chest_xray_original").rglob("*.jpeg"))[:6])


def _check_against_pillow(paths: list[Path]) -> None:
    assert paths
    for path in paths:
        with Image.open(path) as image:
            expected = np.asarray(image.convert("L").resize((224, 224), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(images.load(images.read(path), 224, 224)[..., 0], expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_spans_black_to_white(bits: int) -> None:
    row = b"\x00" + bytes([0b00000000, 0b11111111]) * (8 * bits // 4)
    decoded = np.asarray(images.decode(_png(32, 32, bits, 0, row * 32)))
    assert set(np.unique(decoded)) == {0, 255}


def test_bmp_of_5_and_6_bits_a_channel_is_read() -> None:
    width = height = 32
    pixels = b"\xff\xff" * (width * height)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 3, len(pixels), 0, 0, 0, 0) + masks
    header = b"BM" + struct.pack("<IHHI", 14 + len(information) + len(pixels), 0, 0, 14 + len(information))
    assert np.asarray(images.decode(header + information + pixels)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_honoured(orientation: int, kind: str) -> None:
    upright = _pattern()
    stored, exif = turned(np.asarray(upright), orientation)
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}
    data = _encode(stored, kind, exif=exif, **options.get(kind, {}))
    decoded = images.decode(data)
    assert decoded.size == upright.size
    np.testing.assert_allclose(np.asarray(decoded, float), np.asarray(upright, float), atol=3)


@pytest.mark.parametrize("transparency", [b"\x00" * 256, 0])
def test_a_transparent_palette_is_read_without_a_warning(transparency: bytes | int) -> None:
    data = _encode(_pattern("P"), "PNG", transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = images.decode(data)
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(_pattern("P").convert("L")))


def test_path_bytes_and_pillow_image_give_the_same_pixels(tmp_path: Path) -> None:
    data = _encode(_pattern("RGB"), "JPEG")
    path = tmp_path / "x-ray.jpeg"
    path.write_bytes(data)
    with Image.open(path) as lazy, Image.open(io.BytesIO(data)) as loaded:
        loaded.load()
        decoded = [images.decode(images.read(path)), images.decode(data), images.to_grey(lazy), images.to_grey(loaded)]
    for other in decoded[1:]:
        np.testing.assert_array_equal(np.asarray(decoded[0]), np.asarray(other))


def test_an_image_of_the_callers_stays_as_it_was() -> None:
    image = _pattern("P")
    image.info["transparency"] = 7
    before = image.tobytes()
    images.to_grey(image)
    assert (image.mode, image.info["transparency"], image.tobytes()) == ("P", 7, before)


def test_the_ending_of_a_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x-ray.jpeg"
    path.write_bytes(_encode(_pattern(), "PNG"))
    np.testing.assert_array_equal(np.asarray(images.decode(images.read(path))), np.asarray(_pattern()))


def test_resizing_takes_the_mean_of_what_falls_together() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 64))
    resized = np.asarray(images.resize(Image.fromarray(stripes), 32, 32))
    # Without antialiasing it would be all 0 or all 200.
    np.testing.assert_allclose(resized[:, 2:-2], 100, atol=2)


def test_the_smallest_and_the_largest_image_that_are_read() -> None:
    assert images.decode(_encode(_pattern(size=(28, 28)), "PNG")).size == (28, 28)
    side = 7071
    assert side * side <= images.MAX_PIXELS < (side + 1) ** 2
    assert images.decode(_encode(Image.new("1", (side, side)), "PNG")).size == (side, side)


# A decoder that leaves out what the model would not see


def _noise(width: int, height: int, mode: str = "L") -> Image.Image:
    return Image.effect_noise((width, height), 60).convert(mode)


@pytest.mark.parametrize(("mode", "width", "height"), [("L", 1300, 900), ("RGB", 700, 1900), ("L", 560, 2400)])
def test_a_large_jpeg_is_scaled_as_pillow_does_it(mode: str, width: int, height: int) -> None:
    data = _encode(_noise(width, height, mode), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", (280, 280))
        assert min(image.size) < min(width, height)
        expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images.load(data, 224, 224, smallest=280)[..., 0], expected)


@settings(max_examples=30)
@given(st.integers(28, 1500), st.integers(28, 1500), st.integers(1, 400), st.sampled_from(["L", "RGB"]))
def test_no_side_gets_shorter_than_was_said(width: int, height: int, smallest: int, mode: str) -> None:
    data = _encode(Image.new(mode, (width, height), 99 if mode == "L" else (99, 99, 99)), "JPEG")
    decoded = images.decode(data, smallest)
    assert min(decoded.size) >= min(smallest, width, height)
    assert min(decoded.size) >= images.MIN_SIDE
    if min(width, height) < 2 * smallest:
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(images.decode(data)))
    else:
        # By 8 at most; then it is as small as that allows.
        assert min(decoded.size) < 2 * max(smallest, 28) or decoded.width <= -(-width // 8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_other_formats_are_decoded_in_full(kind: str) -> None:
    data = _encode(_noise(900, 800), kind)
    np.testing.assert_array_equal(np.asarray(images.decode(data, 280)), np.asarray(images.decode(data)))


def test_x_rays_of_the_models_size_are_never_scaled(sample_pack: Path) -> None:
    paths = sorted(sample_pack.rglob("*.jpeg"))[::20]
    assert paths
    for path in paths:
        data = images.read(path)
        np.testing.assert_array_equal(images.load(data, 224, 224, smallest=280), images.load(data, 224, 224))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_scaled_image_is_turned_upright_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encode(_pattern(size=(1600, 1200)), "JPEG", exif=exif)
    scaled, full = images.decode(data, 300), images.decode(data)
    assert scaled.size == (full.width // 4, full.height // 4)
    np.testing.assert_allclose(np.asarray(scaled, float), np.asarray(full.resize(scaled.size), float), atol=4)


def test_an_image_too_large_is_refused_before_it_is_scaled() -> None:
    data = _encode(Image.new("L", (7072, 7072)), "JPEG")
    with pytest.raises(ImageError, match="7072x7072 = 50,013,184 pixels"):
        images.decode(data, 280)


# What is refused, and what is said


def _16_bit_png(colour_type: int, channels: int) -> bytes:
    return _png(32, 32, 16, colour_type, (b"\0" + bytes(2 * channels * 32)) * 32)


_KINDS = "JPEG, PNG, BMP, TIFF, WEBP, GIF or DICOM"
#: The file, and a part of what is said to be given, expected and to be done.
_BAD = {
    "text": (
        b"This is a letter.",
        "not an image of a supported format (it starts with b'This is '",
        _KINDS,
        "convert it",
    ),
    "PDF": (b"%PDF-1.7\n", "not an image", _KINDS, "convert it"),
    "PPM": (_encode(_pattern("RGB"), "PPM"), "not an image", _KINDS, "convert it"),
    "cut JPEG": (
        _encode(_pattern(size=(300, 300)), "JPEG")[:-500],
        "the JPEG data is truncated",
        "a complete image file",
        "Copy the file",
    ),
    "cut header": (_encode(_pattern(), "JPEG")[:200], "not an image", _KINDS, "Copy it again"),
    "cut PNG": (
        _encode(_pattern(), "PNG")[:-500],
        "the PNG data is truncated",
        "a complete image file",
        "Copy the file",
    ),
    "cut TIFF": (
        _encode(_pattern(), "TIFF")[:-900],
        "the TIFF data is truncated",
        "a complete image file",
        "Copy the file",
    ),
    "cut WebP": (_encode(_pattern(), "WEBP")[:-50], "not an image", _KINDS, "Copy it again"),
    "cut BMP": (
        _encode(_pattern(), "BMP")[:-500],
        "the BMP data is truncated",
        "a complete image file",
        "Copy the file",
    ),
    "cut GIF": (
        _encode(_pattern(), "GIF")[:-500],
        "the GIF data is truncated",
        "a complete image file",
        "Copy the file",
    ),
    "1x1": (_encode(_pattern(size=(1, 1)), "PNG"), "1x1 pixels", "at least 28 pixels a side", "original resolution"),
    "strip": (_encode(_pattern(size=(500, 27)), "PNG"), "500x27 pixels", "at least 28 pixels a side", "original"),
    "50 megapixels": (_huge_png(7072), "7072x7072 = 50,013,184 pixels", "at most 50,000,000", "a lower resolution"),
    "144 megapixels": (_huge_png(12_000), "12000x12000 = 144,000,000 pixels", "at most 50,000,000", "a lower"),
    "400 megapixels": (_huge_png(20_000), "more than 89,478,485 pixels", "at most 50,000,000", "a lower resolution"),
    "CMYK JPEG": (_encode(_pattern("CMYK"), "JPEG"), "in the colour space CMYK", "greyscale or RGB", "Convert"),
    "CMYK TIFF": (_encode(_pattern("CMYK"), "TIFF"), "in the colour space CMYK", "greyscale or RGB", "Convert"),
    "LAB TIFF": (_encode(_pattern("LAB"), "TIFF"), "in the colour space LAB", "greyscale or RGB", "Convert"),
    "16-bit PNG": (_encode(Image.new("I;16", (64, 64)), "PNG"), "more than 8 bits", "the window", "as an 8-bit"),
    "16-bit TIFF": (_encode(Image.new("I;16", (64, 64)), "TIFF"), "more than 8 bits", "the window", "as an 8-bit"),
    "float TIFF": (_encode(Image.new("F", (64, 64)), "TIFF"), "more than 8 bits", "the window", "as an 8-bit"),
    "16-bit RGB": (_16_bit_png(2, 3), "more than 8 bits", "the window", "as an 8-bit"),
    "16-bit LA": (_16_bit_png(4, 2), "more than 8 bits", "the window", "as an 8-bit"),
    "16-bit RGBA": (_16_bit_png(6, 4), "more than 8 bits", "the window", "as an 8-bit"),
}


@pytest.mark.parametrize("name", _BAD)
def test_a_bad_image_gets_its_own_message(name: str) -> None:
    data, found, expected, remedy = _BAD[name]
    with warnings.catch_warnings():
        # Pillow warns of some of these; the verdict must not hang on whether it is heard.
        warnings.simplefilter("ignore")
        error = _refusal(data)
    assert found in error.given
    assert expected in error.expected
    assert remedy in error.remedy
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_are_refused(kind: str) -> None:
    data = _encode(_pattern(), kind, save_all=True, append_images=[_pattern().rotate(90)])
    error = _refusal(data)
    assert error.given == f"the {kind} has several frames"
    assert error.remedy == "Save the one frame to classify"


@pytest.mark.filterwarnings("error")
def test_a_huge_image_is_refused_where_warnings_are_errors() -> None:
    assert "pixels" in _refusal(_huge_png(12_000)).given


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, reason in [
        (tmp_path / "missing.png", "there is no such file"),
        (tmp_path, "this is a folder"),
        (empty, "the file is empty"),
        (empty / "inside.png", "the file cannot be read (Not a directory)"),
        (tmp_path / ("x" * 300), "the file cannot be read (File name too long)"),
        (Path("a\0b"), "the file cannot be read (embedded null byte)"),
    ]:
        with pytest.raises(ImageError) as caught:
            images.read(path)
        assert caught.value.given == reason


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_pipe_and_a_device_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="a device or a pipe"):
            images.read(path)


def test_a_file_too_large_for_an_image_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="200,000,001 bytes"):
        images.read(path)


# What is small as a file and large as an image


def _tiff(width: int, height: int, data: bytes, **tags: int) -> bytes:
    """An LZW-compressed greyscale TIFF by hand, in one strip or, with ``tile``, in one tile of that side."""
    tile = tags.get("tile")
    entries = [(256, width), (257, height), (258, 8), (259, 5), (262, 1), (277, 1)]
    start = 8 + 2 + 12 * (len(entries) + (4 if tile else 3)) + 4
    entries += [(322, tile), (323, tile), (324, start), (325, len(data))] if tile else [
        (273, start), (278, height), (279, len(data))
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data


def _with_size(data: bytes, old: tuple[int, int], new: tuple[int, int], form: str) -> bytes:
    """Another size in the header: of width and height, or height and width, as ``form`` packs them."""
    assert data.count(struct.pack(form, *old)) >= 1
    return data.replace(struct.pack(form, *old), struct.pack(form, *new), 1)


_ODD = (97, 89)
_BOMBS = {
    "JPEG": _with_size(_encode(_pattern(size=_ODD), "JPEG"), (89, 97), (65_000, 65_000), ">HH"),
    "progressive JPEG": _with_size(
        _encode(_pattern(size=_ODD), "JPEG", progressive=True), (89, 97), (60_000, 60_000), ">HH"
    ),
    "PNG": _png(2**30, 2**30, 1, 0, bytes(99)),
    "BMP": _with_size(_encode(_pattern(size=_ODD), "BMP"), _ODD, (60_000, 60_000), "<ii"),
    "TIFF": _tiff(60_000, 60_000, bytes(64)),
    "tiled TIFF": _tiff(64, 64, bytes(64), tile=40_000),
    "WEBP": _with_size(_encode(_pattern(size=_ODD), "WEBP"), _ODD, (16_383, 16_383), "<HH"),
    "GIF": _with_size(_encode(_pattern(size=_ODD), "GIF"), _ODD, (60_000, 60_000), "<HH"),
    "frame of a GIF": b"GIF89a" + struct.pack("<HH", 32, 32) + bytes(3) + b","
    + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + bytes([0, 8, 0]) + b";",
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in the kibibytes of Linux")
@pytest.mark.parametrize("name", _BOMBS)
def test_a_bomb_is_stopped_by_its_pixels_before_it_is_decoded(name: str, tmp_path: Path) -> None:
    data = _BOMBS[name]
    assert len(data) < 10_000
    (tmp_path / "bomb").write_bytes(data)
    program = (
        "import pathlib, resource, sys; from pneumo_edge import errors; from pneumo_edge.imaging import images\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "images.decode(pathlib.Path(sys.argv[2]).read_bytes())\n"
        "before = peak()\n"
        "try:\n    images.decode(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "except errors.ImageError as error:\n    print(peak() - before, error)\n"
    )
    Image.new("L", (64, 64)).save(tmp_path / "good", "TIFF" if "TIFF" in name else "PNG")
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "bomb"), str(tmp_path / "good")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kibibytes, _, message = done.stdout.partition(" ")
    assert "pixels" in message and "at most 50,000,000" in message
    assert int(kibibytes) < 20_000


def _jpeg_of_scans(scans: int) -> bytes:
    data = _encode(_pattern(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - data[:last].count(b"\xff\xda")) + data[-2:]


def test_a_jpeg_of_very_many_scans_is_refused_unread() -> None:
    assert images.decode(_jpeg_of_scans(images.MOST_SCANS)).size == (96, 80)
    error = _refusal(_jpeg_of_scans(images.MOST_SCANS + 1))
    assert (error.given, error.expected) == ("the JPEG has 101 scans", "at most 100")


def test_a_jpeg_whose_first_scan_is_whole_is_not_decoded_again_for_what_follows() -> None:
    data = _encode(_pattern(), "JPEG")
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert "truncated or corrupt" in _refusal(data[:-2] + scan * 10_000 + data[-2:]).given


def test_a_file_of_very_many_pieces_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    row = b"\0" + bytes(32)
    data = _png(32, 32, 8, 0, row * 32, *[(b"teXt", b"")] * 1000)
    assert images.decode(data).size == (32, 32)
    monkeypatch.setattr(images, "_MOST_READS", 1000)
    _refusal(data)


# Whatever the bytes, there is an image or an ImageError


def _decode_or_refuse(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            images.decode(data, images.MIN_SIDE)
            decoded = images.decode(data)
        except ImageError as error:
            assert len(str(error).splitlines()) == 1
            return
    assert decoded.mode == "L"
    assert min(decoded.size) >= images.MIN_SIDE
    assert decoded.width * decoded.height <= images.MAX_PIXELS


_SIGNATURES = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"GIF89a", b"RIFF\x10\0\0\0WEBP"]


@given(st.sampled_from(_SIGNATURES), st.binary(max_size=400))
def test_any_bytes(signature: bytes, data: bytes) -> None:
    _decode_or_refuse(signature + data)


_EXIF = Image.Exif()
_EXIF[0x0112] = 6
_WHOLE = {
    "JPEG": _encode(_pattern("RGB"), "JPEG", exif=_EXIF),
    "progressive JPEG": _encode(_pattern(), "JPEG", progressive=True),
    "PNG": _encode(_pattern("P"), "PNG", transparency=3),
    "APNG": _encode(_pattern(), "PNG", save_all=True, append_images=[_pattern().rotate(90)]),
    "GIF": _encode(_pattern(), "GIF", save_all=True, append_images=[_pattern().rotate(90)]),
    "TIFF": _encode(_pattern(), "TIFF", save_all=True, append_images=[_pattern()], compression="tiff_lzw"),
    "WEBP": _encode(_pattern("RGBA"), "WEBP"),
    "BMP": _encode(_pattern("P"), "BMP"),
}


@pytest.mark.parametrize("kind", _WHOLE)
def test_any_damage(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    @settings(max_examples=150)
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        content = bytearray(_WHOLE[kind])
        # Headers stand at the start, and a TIFF's directory at the end.
        place = st.one_of(
            st.integers(0, min(200, len(content) - 1)),
            st.integers(max(0, len(content) - 200), len(content) - 1),
            st.integers(0, len(content) - 1),
        )
        for _ in range(data.draw(st.integers(0, 6))):
            content[data.draw(place)] = data.draw(st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255)))
        _decode_or_refuse(bytes(content[: data.draw(st.integers(0, len(content)))]))
        _decode_or_refuse(bytes(content))

    damage()
    # Native decoders must not print past Python either.
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""
