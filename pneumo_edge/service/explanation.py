"""Pictures that explain a prediction: the X-ray, and the heatmap over it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pneumo_edge.imaging import heatmap, images
from pneumo_edge.runtime.classifier import Prediction

#: Longest side of a picture in pixels, which is enough for a screen.
_SIDE = 1024


@dataclass(frozen=True)
class Explanation:
    """Pictures of at most 1024 pixels per side, as data URLs of JPEG files, and the heatmap as numbers.

    ``x_ray`` is the X-ray; ``overlay`` the same with the heatmap over it. ``heatmap`` has rows of numbers: the
    contribution of each cell of a grid over the X-ray to the logit of the positive class (without one, of the label),
    minus that of the others. ``overlay`` and ``heatmap`` are null if the model file has no heatmap.
    """

    x_ray: str
    overlay: str | None
    heatmap: tuple[tuple[float, ...], ...] | None


def explain(data: bytes, prediction: Prediction, max_pixels: int) -> Explanation:
    """Draw the pictures that explain a prediction.

    Args:
        data: The classified image file.
        prediction: Its prediction, with or without the heatmap.
        max_pixels: As for :func:`pneumo_edge.imaging.images.decode`.

    Raises:
        ImageError: As :func:`pneumo_edge.imaging.images.decode`.
    """
    x_ray = images.decode(data, _SIDE, max_pixels)
    x_ray.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    if prediction.heatmap is None:
        return Explanation(_data_url(x_ray), None, None)
    overlay = heatmap.draw(x_ray, prediction.heatmap)
    return Explanation(_data_url(x_ray), _data_url(overlay), tuple(map(tuple, prediction.heatmap.tolist())))


def _data_url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.info.clear()
    picture.save(stream, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
