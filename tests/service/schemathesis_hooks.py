"""Bodies for schemathesis: images, whole, cut short or with some bytes changed, and bytes that are none."""

from __future__ import annotations

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge.service.openapi import MEDIA_TYPES


def _encode(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert(mode).save(stream, kind)
    return stream.getvalue()


_SEEDS = [
    _encode(kind, mode, size)
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
    for mode in ("L", "RGB")
    for size in ((40, 50), (300, 260))
] + [_encode("PNG", "1", (28, 28)), _encode("PNG", "L", (20, 20)), bytes(128) + b"DICM" + bytes(400)]


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(_SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.sampled_from([len(data), len(data), len(data) // 2, 12]))])


for _media_type in MEDIA_TYPES:
    schemathesis.openapi.media_type(_media_type, _files() | st.binary(max_size=200))
