"""The JSON documents of a kit: its test vectors, and the results that a port writes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from pneumo_edge._util.records import AtLeastOne, Text, Within
from pneumo_edge.imaging.images import MAX_PIXELS, Pixels

VECTORS_VERSION = 1
#: What a port computes, in this order.
STEPS = ("decode", "grey", "resize", "tensor", "outputs", "decision")
#: The fields in which a port reports what it has.
REPORTED = ("decoded", "grey", "resized", "tensor", "outputs", "answer")

_Side = Annotated[int, Within(1, MAX_PIXELS)]


@dataclass(frozen=True)
class PictureFile:
    """Pixels in a Netpbm file: binary PGM (P5) with one channel, binary PPM (P6) with three, 8 bits each."""

    file: str
    width: _Side
    height: _Side
    channels: Literal[1, 3]


@dataclass(frozen=True)
class Answer:
    """What a port answers: the fields of pneumo-edge's Prediction.

    ``probabilities`` has that of each class, by name. ``prediction_set`` and ``uncertain`` are null where the ModelSpec
    has no ``conformal``, ``distance`` and ``out_of_distribution`` where it has no ``input_check``.
    """

    probabilities: dict[str, float]
    label: str
    prediction_set: tuple[str, ...] | None
    uncertain: bool | None
    distance: float | None
    out_of_distribution: bool | None


@dataclass(frozen=True)
class Vector:
    """An image file, and what each step makes of it.

    ``refused`` says why the image must be refused; the fields below are then null or empty. ``decoded`` are the upright
    pixels of the file, with one channel or three, ``grey`` and ``resized`` those after the steps of these names.
    ``outputs`` are the model's, by their names, in C order and as float32.
    """

    file: str
    about: str
    refused: str | None = None
    decoded: PictureFile | None = None
    grey: PictureFile | None = None
    resized: PictureFile | None = None
    outputs: dict[str, tuple[float, ...]] = field(default_factory=dict)
    answer: Answer | None = None


@dataclass(frozen=True)
class DecisionCase:
    """Outputs of a model that were made up to lie beside every limit, and the answer to them."""

    about: str
    outputs: dict[str, tuple[float, ...]]
    answer: Answer


@dataclass(frozen=True)
class TensorVectors:
    """The tensor that the model takes: ``values[channel][pixel]`` is what it gets for a pixel of 0 to 255."""

    shape: tuple[AtLeastOne, ...]
    layout: Literal["nhwc", "nchw"]
    dtype: Literal["float32", "uint8", "int8"]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Tolerances:
    """How far each step of a port may be from the same step of pneumo-edge on the port's own result of the step before.

    ``decoded_lossless`` and ``decoded_lossy`` (JPEG) are differences of a pixel value of 0 to 255, the ``_mean`` ones
    on the average of an image. ``grey`` and ``resized`` are the same. ``tensor`` is a difference of an element.
    ``probability`` is a difference of a probability, ``other_outputs`` the root mean square of the differences of an
    output as a share of that of the output. ``answer`` is a difference of a probability in the answer, and a
    share of the distance. The label, the prediction set and the remarks have no tolerance.
    """

    decoded_lossless: float
    decoded_lossy: float
    decoded_lossy_mean: float
    grey: float
    resized: float
    tensor: float
    probability: float
    other_outputs: float
    answer: float


@dataclass(frozen=True)
class KitVectors:
    """The test vectors of a kit, for one model file.

    ``model_sha256`` is that of the whole file. ``outputs`` are the names of the model's outputs in their order, and
    ``engine`` is what computed them here.
    """

    name: Text
    model: str
    model_sha256: str
    engine: str
    notice: str
    outputs: tuple[str, ...]
    tensor: TensorVectors
    tolerances: Tolerances
    vectors: tuple[Vector, ...]
    decisions: tuple[DecisionCase, ...]
    schema_version: AtLeastOne = VECTORS_VERSION

    def __post_init__(self) -> None:
        _check_version(self.schema_version)


@dataclass(frozen=True)
class PortPicture:
    """Pixels that a port has after a step: the bytes of all rows in base64, three for each pixel where it is RGB."""

    width: _Side
    height: _Side
    channels: Literal[1, 3]
    pixels: str

    def array(self) -> Pixels:
        """The pixels, uint8 of shape (height, width) or (height, width, 3).

        Raises:
            ValueError: They are not base64, or not as many as they should be.
        """
        shape = (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)
        return _array(self.pixels, np.uint8, shape)


@dataclass(frozen=True)
class PortVector:
    """What a port made of the image ``file``; what it does not report is null.

    ``error`` is its message where it refused the image. ``tensor`` has the bytes of the tensor in C order, little
    endian, in base64.
    """

    file: str
    error: str | None = None
    decoded: PortPicture | None = None
    grey: PortPicture | None = None
    resized: PortPicture | None = None
    tensor: str | None = None
    outputs: dict[str, tuple[float, ...]] | None = None
    answer: Answer | None = None

    def reports(self, field_name: str) -> bool:
        """Whether the port reports a field of :data:`REPORTED`."""
        return getattr(self, field_name) is not None

    def tensor_array(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any] | None:
        """The tensor of a shape and type; None where the port does not report it.

        Raises:
            ValueError: It is not base64, or of another size.
        """
        return None if self.tensor is None else _array(self.tensor, np.dtype(dtype).newbyteorder("<"), shape)


@dataclass(frozen=True)
class PortResults:
    """The results of a port, which `pneumo-edge kit check` grades.

    ``port`` is its name. ``vectors`` has an entry for each vector, and ``decisions`` the answers to the decision cases
    in their order.
    """

    port: Text
    vectors: tuple[PortVector, ...]
    decisions: tuple[Answer, ...] = ()
    schema_version: AtLeastOne = VECTORS_VERSION

    def __post_init__(self) -> None:
        _check_version(self.schema_version)


def _check_version(version: int) -> None:
    if version > VECTORS_VERSION:
        raise ValueError(f"schema_version is {version}, newer than {VECTORS_VERSION}")


def _array(text: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if len(content) != expected:
        raise ValueError(f"of {len(content):,} bytes, not {expected:,}")
    return np.frombuffer(content, dtype).reshape(shape)
