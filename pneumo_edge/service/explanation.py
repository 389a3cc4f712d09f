"""What a person looks at beside a verdict: the X-ray, and the heatmap over it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pneumo_edge.imaging import heatmap, images
from pneumo_edge.runtime.classifier import Prediction

#: The longest side of a picture, in pixels: what a screen shows, whatever the X-ray has.
_SIDE = 1024


@dataclass(frozen=True)
class Explanation:
    """Pictures of at most 1024 pixels a side, as data URLs of JPEG files, and the heatmap that is drawn in one of them.

    ``x_ray`` is the X-ray; ``overlay`` the same with the heatmap over it. ``heatmap`` has rows of numbers: what each
    cell of a grid over the X-ray adds to the logit of the positive class (without one, of the label), less that of the
    others. ``overlay`` and ``heatmap`` are null where the model file has none.
    """

    x_ray: str
    overlay: str | None
    heatmap: tuple[tuple[float, ...], ...] | None


def explain(data: bytes, prediction: Prediction, max_pixels: int) -> Explanation:
    """Draw what is looked at beside a prediction.

    Args:
        data: The image file that was judged.
        prediction: Its prediction, with the heatmap or without.
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
