"""Scalings: what is done to pixels of 0 to 255 before the first layer of a network, inside the graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pneumo_edge._util import extras
from pneumo_edge.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: One number for all channels, or one for each in the order red, green, blue.
ByChannel = float | tuple[float, float, float]

#: Scale and offset are at most this.
MAX_FACTOR = 1e6
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_STATISTICS = re.compile(rf"mean=({_NUMBER}(?:,{_NUMBER}){{2}}|{_NUMBER});std=({_NUMBER}(?:,{_NUMBER}){{2}}|{_NUMBER})")


@dataclass(frozen=True)
class Scaling:
    """``scale * pixel + offset``, by channel; then, with ``bgr``, the channels in the order blue, green, red."""

    scale: ByChannel = 1.0
    offset: ByChannel = 0.0
    bgr: bool = False

    @property
    def uniform(self) -> tuple[float, float] | None:
        """Scale and offset of all channels; None where they are not alike or change their order."""
        if isinstance(self.scale, tuple) or isinstance(self.offset, tuple) or self.bgr:
            return None
        return self.scale, self.offset

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scale pixels of shape (..., 3), values 0 to 255, in the order red, green, blue."""
        import numpy as np

        scale, offset = (np.asarray(value, dtype=np.float32) for value in (self.scale, self.offset))
        scaled = np.asarray(pixels * scale + offset, dtype=np.float32)
        return scaled[..., ::-1] if self.bgr else scaled

    def build(self, image: Any, name: str) -> Any:
        """Add the scaling to a graph.

        Args:
            image: A symbolic tensor of shape (batch, height, width, 3), values 0 to 255.
            name: Of the layer, which training leaves as it is.

        Returns:
            The scaled tensor; ``image`` itself where nothing is to be done.
        """
        import numpy as np

        if self == Scaling():
            return image
        layers = extras.need("keras", "train").layers
        if self.uniform:
            return layers.Rescaling(self.scale, offset=self.offset, name=name)(image)
        # A convolution of 1x1: every converter and every delegate has it, which is not so of reversing an axis, and its
        # weights are quantized for each channel apart.
        convolution = layers.Conv2D(3, 1, trainable=False, name=name)
        scaled = convolution(image)
        kernel = np.diag(np.broadcast_to(np.asarray(self.scale, dtype=np.float32), 3))
        bias = np.broadcast_to(np.asarray(self.offset, dtype=np.float32), 3)
        order = slice(None, None, -1 if self.bgr else 1)
        convolution.set_weights([kernel[np.newaxis, np.newaxis, :, order], bias[order]])
        return scaled


#: By the names that users know; :func:`parse` takes others, too.
SCALINGS: dict[str, Scaling] = {
    "0..255": Scaling(),
    "0..1": Scaling(1 / 255),
    "-1..1": Scaling(1 / 127.5, -1.0),
    # Mean and standard deviation of ImageNet's pixels, as PyTorch's networks have them.
    "imagenet": Scaling(
        (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)), (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
    ),
    # Blue, green and red, less ImageNet's mean, as the networks of Caffe have them.
    "caffe": Scaling(1.0, (-123.68, -116.779, -103.939), bgr=True),
}


def parse(text: str) -> Scaling:
    """A scaling by a name of :data:`SCALINGS`, by its range, or by mean and standard deviation.

    Args:
        text: A name; ``"LOW..HIGH"``, to which 0 and 255 are scaled; or ``"mean=M;std=S"``, where M and S are a number,
            or three with commas between them, in the order red, green, blue. They are those of pixels of 0 to 255, or
            of 0 to 1 where no number is above 1.

    Raises:
        ArgumentError: It is none of them, or has a scale or offset of more than :data:`MAX_FACTOR`.
    """
    if text in SCALINGS:
        return SCALINGS[text]
    found = _parse(text)
    if found is None:
        raise ArgumentError(
            f"the input range is {text!r}",
            f"{', '.join(SCALINGS)}, LOW..HIGH, or mean=M;std=S",
            "Give what the pixels were scaled to before they went into the network",
        )
    factors = [
        factor for each in (found.scale, found.offset) for factor in (each if isinstance(each, tuple) else (each,))
    ]
    if not all(abs(factor) <= MAX_FACTOR for factor in factors):
        raise ArgumentError(
            f"the input range is {text!r}, which multiplies pixels by {found.scale} and adds {found.offset}",
            f"a factor and an addend of at most {MAX_FACTOR:,.0f}",
            "Give what the pixels were scaled to before they went into the network",
        )
    return found


def _parse(text: str) -> Scaling | None:
    if match := _RANGE.fullmatch(text):
        low, high = map(float, match.groups())
        if low < high:
            return Scaling((high - low) / 255, low)
    if match := _STATISTICS.fullmatch(text.replace(" ", "")):
        means, deviations = ([float(number) for number in group.split(",")] for group in match.groups())
        if min(deviations) > 0:
            count = max(len(means), len(deviations))
            pairs = list(zip(means * (count // len(means)), deviations * (count // len(deviations)), strict=True))
            unit = 1 / 255 if max(*means, *deviations) <= 1 else 1.0
            return Scaling(
                _by_channel([unit / deviation for _, deviation in pairs]),
                _by_channel([-mean / deviation for mean, deviation in pairs]),
            )
    return None


def _by_channel(values: list[float]) -> ByChannel:
    return values[0] if len(values) == 1 else (values[0], values[1], values[2])
