"""Turns the bytes of an image file into the pixels that a model takes.

Training, calibration, verification, benchmarks and the device all call these functions, so that
preprocessing cannot differ between them: decode to 8-bit greyscale, resize with antialiasing, stack
to three equal channels. Every further scaling is inside the model's graph.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from pneumo_edge._util import library_warnings, native_output
from pneumo_edge.errors import ImageError, ImageTooLargeError, NotAnImageError

Pixels = npt.NDArray[np.uint8]

#: Decoders that are tried, as Pillow names them; anything else is refused unread.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
#: File name endings that a folder is searched for.
SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".dcm", ".dicom"})
#: Larger images are refused before they are decoded; the largest X-ray detectors give about 20 million pixels.
MAX_PIXELS = 50_000_000
MAX_BYTES = 200_000_000
#: The smallest side with enough detail to classify: that of the smallest MedMNIST images.
MIN_SIDE = 28

#: What an encoder makes is far below these; what is above is made to keep a decoder busy. A progressive JPEG goes over
#: all its pixels once for each scan; encoders make about 10, and libtiff, too, takes 100 at most.
MOST_SCANS = 100
_JPEG, _START_OF_SCAN = b"\xff\xd8\xff", b"\xff\xda"
#: Pillow walks through small pieces of a file, such as the chunks of a PNG, in Python.
_MOST_READS = 5_000_000
#: Tags of a TIFF: the size of its tiles, which are decoded whole, however small the image.
_TILE_WIDTH, _TILE_LENGTH = 322, 323
#: Pillow opens a 16-bit RGB file as 8-bit RGB; only its tile tells. (A BMP's BGR;16 has 5 or 6 bits a channel.)
_16_BITS = re.compile(r";16[BLN]")
_READABLE_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"})
_RESIZE_FILTERS = {"bilinear": Image.Resampling.BILINEAR}
_BEST = "an 8-bit greyscale or RGB JPEG or PNG"
#: What Pillow calls a JPEG with several pictures.
_MPO = "MPO"

_unheard = library_warnings.Unheard()
# Pillow logs an error of a TIFF that it then raises.
library_warnings.keep_unheard("PIL.ImageFile", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")


def read(path: Path) -> bytes:
    """Read an image file.

    Returns:
        Its bytes, not decoded.

    Raises:
        ImageError: The file is missing, empty, too large, or cannot be read.
    """
    expected = "the path of an image file"
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("this is a folder", expected, "Give the files in it, or give the folder to `predict`")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("this is a device or a pipe", expected, "Save the image to a file first")
        if status.st_size:
            check_bytes(status.st_size)
        with path.open("rb", buffering=0) as file:  # half the time of a buffer that nothing is read from twice
            data = file.read()
    except FileNotFoundError as error:
        raise ImageError("there is no such file", expected, "Check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"the file cannot be read ({reason})", expected, "Check the path and its permissions"
        ) from error
    check_bytes(len(data))
    return data


def check_bytes(size: int) -> None:
    """Check the size of an image file.

    Args:
        size: Its bytes.

    Raises:
        ImageError: It is empty, or larger than :data:`MAX_BYTES`.
    """
    if not size:
        raise ImageError("the file is empty", "an image", "Copy the file again from its source")
    if size > MAX_BYTES:
        raise ImageTooLargeError(
            f"the file has {size:,} bytes", f"at most {MAX_BYTES:,}", "Save it at a lower resolution"
        )


def decode(data: bytes, smallest: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the bytes of an image file to 8-bit greyscale.

    Args:
        data: A JPEG, PNG, BMP, TIFF, WebP, GIF or DICOM file, whole, of one picture. Of several pictures in a JPEG
            (MPO, as phones write it) the first is taken, as viewers do.
        smallest: Let the decoder of a format that can do so, which is JPEG, leave out detail: it scales the image
            down by 2, 4 or 8, by the most that leaves both sides at least so many pixels long, and to grey as
            it goes. An image with a side of less than twice that, and every image by default, comes at its own
            size, bit for bit the same.
        max_pixels: A larger image is refused before it is decoded; at most :data:`MAX_PIXELS`.

    Returns:
        A Pillow image of mode ``"L"``, turned upright by its EXIF orientation.

    Raises:
        ImageError: The bytes are not an image of these formats, are truncated, have more than 8 bits per channel
            without a window to map them to 8, a colour space other than grey or RGB, several frames, or a size
            out of range; or the file is DICOM and the extra ``dicom`` is not installed.
    """
    with open_image(data, max_pixels) as image, _refusing_what_is_broken(image):
        _check_before_decoding(image, max_pixels)
        if smallest and isinstance(image, JpegImageFile) and min(image.size) >= 2 * max(smallest, MIN_SIDE):
            image.draft("L", (max(smallest, MIN_SIDE),) * 2)
            image.decodermaxblock = len(data)  # Pillow's decoder joins pieces that it could not use up
        _load(image)
        # In place: nobody else holds this image, and a copy of it is millions of bytes.
        ImageOps.exif_transpose(image, in_place=True)
        return image if image.mode == "L" else _without_colour(image)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open the bytes of an image file, by their content.

    Args:
        data: As for :func:`decode`.
        max_pixels: As for :func:`decode`; only what is decoded here, which is DICOM, is held to it.

    Returns:
        What Pillow makes of them, unchecked and not decoded; of a DICOM file, its picture in 8-bit greyscale,
        with the format ``"DICOM"``.

    Raises:
        ImageError: The bytes are no image of these kinds, a JPEG of more than :data:`MOST_SCANS` scans, or a DICOM file
            that :func:`decode` refuses.
    """
    if data[128:132] == b"DICM":
        return _open_dicom(data, max_pixels)
    try:
        with _unheard:
            # Pillow would look for further pictures behind the first, and call the file by another name.
            is_jpeg = data.startswith(_JPEG)
            image = JpegImageFile(_Stream(data)) if is_jpeg else Image.open(_Stream(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(f"more than {Image.MAX_IMAGE_PIXELS:,}", max_pixels) from error
    except Exception as error:  # Pillow's decoders promise no common base class for broken input
        if _is_dicom_without_preamble(data):
            return _open_dicom(data, max_pixels)
        raise _not_an_image(data) from error
    if _may_have_many_scans(image) and (scans := data.count(_START_OF_SCAN)) > MOST_SCANS:
        raise ImageError(f"the JPEG has {scans} scans", f"at most {MOST_SCANS}", f"Convert it to {_BEST}")
    return image


def _may_have_many_scans(image: Image.Image) -> bool:
    """Whether the decoder may go over the pixels more than once; of one baseline component it takes the first scan."""
    return image.format == "JPEG" and ("progressive" in image.info or getattr(image, "layers", 0) != 1)


class _Stream(io.BytesIO):
    """The file, which cannot be read for ever."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError("more pieces than any whole file has")
        return super().read(size)


def to_grey(image: Image.Image) -> Image.Image:
    """Check an opened image and turn it into 8-bit greyscale at its own size.

    Returns:
        A Pillow image of mode ``"L"``, turned upright by its EXIF orientation; ``image`` stays as it is.

    Raises:
        ImageError: As :func:`decode`.
    """
    with _refusing_what_is_broken(image):
        _check_before_decoding(image)
        _load(image)
        return _without_colour(ImageOps.exif_transpose(image))


@contextlib.contextmanager
def _refusing_what_is_broken(image: Image.Image) -> Iterator[None]:
    try:
        with _unheard:
            yield
    except ImageError:
        raise
    except Exception as error:  # as in open_image
        raise ImageError(
            f"the {_kind(image)} data is truncated or corrupt ({str(error) or type(error).__name__})",
            "a complete image file",
            "Copy the file again from its source",
        ) from error


def _load(image: Image.Image) -> None:
    # libtiff prints its errors; what other threads print meanwhile is lost, so it is not asked of more than those.
    with native_output.quiet_stderr() if "libtiff" in str(getattr(image, "tile", "")) else contextlib.nullcontext():
        image.load()


def _without_colour(image: Image.Image) -> Image.Image:
    # Transparency says nothing of the X-ray, and Pillow warns of it where it is a palette's.
    image.info.pop("transparency", None)
    return image.convert("L")


def _kind(image: Image.Image) -> str:
    return image.format or "image"


def resize(image: Image.Image, height: int, width: int, resize_filter: str = "bilinear") -> Image.Image:
    """Resize to ``height`` x ``width`` pixels with antialiasing; the aspect ratio is not kept.

    Args:
        image: A Pillow image of mode ``"L"``.
        height: Target height in pixels.
        width: Target width in pixels.
        resize_filter: Name of the filter, as in ``ModelSpec.input.resize_filter``.
    """
    return image.resize((width, height), _RESIZE_FILTERS[resize_filter])


def to_tensor(image: Image.Image) -> Pixels:
    """Turn a greyscale image into the RGB pixels of a model's input.

    Returns:
        uint8 array of shape (height, width, 3), values 0 to 255, three equal channels.
    """
    return grey_to_rgb(np.asarray(image, dtype=np.uint8))


def grey_to_rgb(grey: Pixels) -> Pixels:
    """Repeat greyscale pixels of shape (..., height, width) to three channels, (..., height, width, 3)."""
    rgb = np.empty((*grey.shape, 3), grey.dtype)
    fill(rgb, grey)
    return rgb


def fill(tensor: npt.NDArray[Any], grey: Image.Image | Pixels) -> None:
    """Write greyscale pixels of shape (..., height, width) into all channels of a tensor, (..., height, width, 3).

    The tensor keeps its dtype, so that a model's input is allocated once and no pixel is converted twice.
    """
    pixels = np.asarray(grey, dtype=np.uint8)
    # Channel by channel is several times as fast as np.repeat.
    for channel in range(3):
        tensor[..., channel] = pixels


def load(data: bytes, height: int, width: int, resize_filter: str = "bilinear", smallest: int | None = None) -> Pixels:
    """Turn file bytes into a model's pixels: decode, resize, stack.

    Args:
        data: As for :func:`decode`.
        height: As for :func:`resize`.
        width: As for :func:`resize`.
        resize_filter: As for :func:`resize`.
        smallest: As for :func:`decode`; ``ModelSpec.smallest_decoded`` is that of a model.

    Returns:
        uint8 array of shape (height, width, 3), values 0 to 255.

    Raises:
        ImageError: As :func:`decode`.
    """
    return to_tensor(resize(decode(data, smallest), height, width, resize_filter))


def _is_dicom_without_preamble(data: bytes) -> bool:
    from pneumo_edge.imaging import dicom

    return dicom.begins_at(data) is not None


def _open_dicom(data: bytes, max_pixels: int) -> Image.Image:
    # Most devices never see one.
    from pneumo_edge.imaging import dicom

    picture = dicom.open_picture(data)
    _check_size(*picture.size, max_pixels)
    image = Image.fromarray(picture.decode())
    image.format = "DICOM"
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(f"{width}x{height} = {width * height:,}", max_pixels)
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"the image is {width}x{height} pixels",
            f"at least {MIN_SIDE} pixels a side",
            "Use the image at its original resolution",
        )


def _check_tile(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"the TIFF has tiles of {width}x{height} pixels", f"at most {max_pixels:,}", f"Convert it to {_BEST}"
        )


def _check_before_decoding(image: Image.Image, max_pixels: int = MAX_PIXELS) -> None:
    kind = _kind(image)
    _check_size(*image.size, max_pixels)
    if kind == "TIFF" and hasattr(image, "tag_v2"):
        _check_tile(image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_LENGTH, 0), max_pixels)
    # Their number is not asked for: to count them, Pillow walks through the file. Of an MPO that a caller has opened,
    # the picture that is shown is taken.
    if kind != _MPO and getattr(image, "is_animated", False):
        raise ImageError(f"the {kind} has several frames", "a single image", "Save the one frame to classify")
    if image.mode.startswith(("I", "F")) or _16_BITS.search(str(getattr(image, "tile", ""))):
        raise ImageError(
            f"the {kind} has more than 8 bits per channel",
            "8 bits, because the window that maps more bits to 8 determines what is visible",
            "Export it with a radiologist's window, as an 8-bit greyscale JPEG or PNG",
        )
    if image.mode not in _READABLE_MODES:
        raise ImageError(
            f"the {kind} is in the colour space {image.mode}", "greyscale or RGB", f"Convert it to {_BEST}"
        )


def _too_large(pixels: str, most: int) -> ImageTooLargeError:
    return ImageTooLargeError(f"the image has {pixels} pixels", f"at most {most:,}", "Save it at a lower resolution")


def _not_an_image(data: bytes) -> NotAnImageError:
    # Not at the top: an image that can be read should not wait for dozens of patterns.
    from pneumo_edge.imaging import sniffing

    kind = sniffing.sniff(data[: sniffing.HEAD_BYTES])
    named = f"{kind.name}, " if kind and not kind.is_read else ""
    return NotAnImageError(
        f"this is {named}not an image of a supported format (it starts with {data[:8]!r})",
        f"a {', '.join(FORMATS)} or DICOM file",
        f"Copy it again, or convert it to {_BEST}",
    )
