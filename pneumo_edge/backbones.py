"""The table of image backbones: everything that depends on which one it is. A backbone is added by a row."""

from __future__ import annotations

from dataclasses import dataclass

#: Height and width of the images that networks take.
SIDE = 224
_KERAS = "https://storage.googleapis.com"


@dataclass(frozen=True)
class Pretrained:
    """The ImageNet weights of a backbone without its top.

    Attributes:
        file: Their name in a folder of weights.
        url: Where Keras has them.
        md5: The MD5 of the file at ``url``, where Keras knows it.
        sha256: The SHA-256 of other files that are known to hold ImageNet's weights.
        source: Who made them, as a model card says it.
        licence: Their SPDX identifier.
    """

    file: str
    url: str
    md5: str | None
    sha256: frozenset[str]
    source: str
    licence: str


@dataclass(frozen=True)
class Backbone:
    """A row of the table.

    Attributes:
        name: The name in commands, runs, model files and results.
        title: The name as its authors write it.
        builder: ``"module:function"``, imported when a network is built. It is called with ``include_top=False``,
            ``weights=None`` and ``input_shape=(side, side, 3)`` and returns a ``keras.Model`` from pixels to a feature
            map.
        rescaling: (scale, offset) applied to pixels of 0 to 255 before the backbone, inside the graph; None where the
            backbone takes such pixels.
        pretrained: Its ImageNet weights; None where none are known.
        decoder_scale: The least size to which an image's decoder may scale the image down, as a multiple of the
            model's input; None for decoding in full. It goes into every exported file. A row has one where it was
            measured that the ``int8`` file keeps its decisions (tests/test_bundled.py).
    """

    name: str
    title: str
    builder: str
    rescaling: tuple[float, float] | None
    pretrained: Pretrained | None = None
    decoder_scale: float | None = None


BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            "mobilenetv2",
            "MobileNetV2",
            "keras.applications:MobileNetV2",
            rescaling=(1 / 127.5, -1.0),
            pretrained=Pretrained(
                "mobilenetv2_imagenet_notop.weights.h5",
                f"{_KERAS}/tensorflow/keras-applications/mobilenet_v2/"
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
                md5=None,
                sha256=frozenset({"8da136b19a473b269f99a5230c35d91f56d4aba4fc700b853ac20145e32f45b2"}),
                source="published by Google and built by `keras.applications`",
                licence="Apache-2.0",
            ),
            decoder_scale=1.1,
        ),
        Backbone(
            "efficientnetb0",
            "EfficientNetB0",
            "keras.applications:EfficientNetB0",
            rescaling=None,
            pretrained=Pretrained(
                "efficientnetb0_imagenet_notop.weights.h5",
                f"{_KERAS}/keras-applications/efficientnetb0_notop.h5",
                md5="50bc09e76180e00e4465e1a485ddc09d",
                sha256=frozenset({"759f85ff7d7266b08423a0085f33f08a276d3be5ccf801e0a4de885d39adb72d"}),
                source="published by Google and built by `keras.applications`",
                licence="Apache-2.0",
            ),
            decoder_scale=1.25,
        ),
    )
}


def backbone_title(name: str) -> str:
    """A backbone's name as its authors write it; of one that is not in the table, ``name`` itself."""
    return BACKBONES[name].title if name in BACKBONES else name
