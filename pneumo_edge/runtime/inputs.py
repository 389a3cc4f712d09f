"""The inputs that a classifier accepts as an image: a file, its bytes, or its pixels."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from pneumo_edge.errors import ImageError, ImageTooLargeError
from pneumo_edge.imaging import images

#: The path of an image file; its bytes; a binary file object; a Pillow image; or pixels, uint8 of shape
#: (height, width), or (height, width, 3) in RGB.
ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | images.Pixels"
)

_EXPECTED = (
    "a path (str or os.PathLike), bytes, bytearray, memoryview, a binary file object, a Pillow image, or a uint8 array "
    "of shape (height, width) or (height, width, 3)"
)
#: Bytes that are read at a time from a file object.
_PIECE = 2**20


def take(given: ImageInput) -> tuple[str, bytes | Image.Image]:
    """Read the image that was given.

    Args:
        given: Any of :data:`ImageInput`. A file object is read from its beginning if it can be rewound, as Pillow
            does, and otherwise from its current position; it stays open.

    Returns:
        Its name (the path, or the name of its type), and the bytes of an image file or a picture.

    Raises:
        TypeError: The type is not supported.
        ImageError: The file cannot be read, the path is empty, or the array has no pixels.
    """
    if isinstance(given, str | os.PathLike):
        if not os.fspath(given):  # as a Path it would be the current folder
            raise ImageError("the path is empty", "the path of an image file", "Check where the path comes from")
        path = Path(os.fsdecode(given))
        return str(path), images.read(path)
    return type(given).__name__, _content(given)


def _content(given: Any) -> bytes | Image.Image:
    if isinstance(given, bytes | Image.Image):
        return given
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if isinstance(given, np.ndarray):
        return _picture(given)
    if hasattr(given, "read"):
        return _read(given)
    raise _unfit(f"{type(given).__name__}")


def _picture(array: Any) -> Image.Image:
    shape = ", ".join(map(str, array.shape))
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise _unfit(f"an array of {array.dtype} of shape ({shape})")
    if isinstance(array, np.ma.MaskedArray):
        raise _unfit("a masked array")
    if not array.size:
        raise ImageError(f"the array is empty, of shape ({shape})", "an image", "Give the pixels of the image")
    return Image.fromarray(np.ascontiguousarray(array))


def _read(stream: Any) -> bytes:
    if isinstance(stream, io.TextIOBase):
        raise _unfit(f"{type(stream).__name__}, a file in text mode")
    try:
        if stream.seekable() if hasattr(stream, "seekable") else hasattr(stream, "seek"):
            stream.seek(0)
        data = _read_all(stream)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"the file object cannot be read ({reason})", "an open binary file", "Open the file for reading"
        ) from error
    if not data:
        raise ImageError("the file object is empty", "an image", "Give a file object with a complete image file")
    return data


def _read_all(stream: Any) -> bytes:
    pieces, size = [], 0
    while piece := stream.read(_PIECE):
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise _unfit(f"{type(stream).__name__}, which does not give bytes")
        pieces.append(piece)
        size += len(piece)
        if size > images.MAX_BYTES:
            raise ImageTooLargeError(
                f"the file object has more than {images.MAX_BYTES:,} bytes", f"at most {images.MAX_BYTES:,}",
                "Save the image at a lower resolution",
            )  # fmt: skip
    return b"".join(pieces)


def _unfit(given: str) -> TypeError:
    return TypeError(f"the image is {given}; expected {_EXPECTED}")
