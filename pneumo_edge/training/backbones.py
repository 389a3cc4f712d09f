"""The table of image backbones, each with the scaling of pixels that it needs inside its graph."""

from __future__ import annotations

from dataclasses import dataclass

#: Height and width of the images that networks take.
SIDE = 224
_KERAS = "https://storage.googleapis.com"


@dataclass(frozen=True)
class Backbone:
    """A row of the table of backbones.

    ``weights_file`` is its name in a folder of weights. ``download`` is where Keras has its ImageNet weights,
    ``download_md5`` their MD5 where Keras knows it; ``imagenet`` holds the SHA-256 of other files that are known to be
    ImageNet's. ``rescaling`` is (scale, offset) applied to pixels of 0 to 255 before the backbone, or None where
    ``keras.applications`` has that inside already.
    """

    name: str
    application: str
    weights_file: str
    rescaling: tuple[float, float] | None
    download: str
    download_md5: str | None
    imagenet: frozenset[str]


BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            "mobilenetv2",
            "MobileNetV2",
            "mobilenetv2_imagenet_notop.weights.h5",
            (1 / 127.5, -1.0),
            f"{_KERAS}/tensorflow/keras-applications/mobilenet_v2/"
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
            None,
            frozenset({"8da136b19a473b269f99a5230c35d91f56d4aba4fc700b853ac20145e32f45b2"}),
        ),
        Backbone(
            "efficientnetb0",
            "EfficientNetB0",
            "efficientnetb0_imagenet_notop.weights.h5",
            None,
            f"{_KERAS}/keras-applications/efficientnetb0_notop.h5",
            "50bc09e76180e00e4465e1a485ddc09d",
            frozenset({"759f85ff7d7266b08423a0085f33f08a276d3be5ccf801e0a4de885d39adb72d"}),
        ),
    )
}
