"""The table of image backbones, each with the scaling of pixels that it needs inside its graph."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backbone:
    """A row of the table of backbones.

    ``rescaling`` is (scale, offset) applied to pixels of 0 to 255 before the backbone, or None where
    ``keras.applications`` has that inside already.
    """

    name: str
    application: str
    weights_file: str
    rescaling: tuple[float, float] | None


BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone("mobilenetv2", "MobileNetV2", "mobilenetv2_imagenet_notop.weights.h5", (1 / 127.5, -1.0)),
        Backbone("efficientnetb0", "EfficientNetB0", "efficientnetb0_imagenet_notop.weights.h5", None),
    )
}
