"""The inputs and outputs of any model file, as an engine describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pneumo_edge.errors import ModelFileError

#: Sizes of a tensor's axes; None where the file takes any size.
OpenShape = tuple[int | None, ...]
Shape = tuple[int, ...]

Tensor = npt.NDArray[Any]
_Asked = TypeVar("_Asked")

#: In examples for axes of any size.
_EXAMPLE_SIDE = 224


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model file.

    Attributes:
        name: Its name in the file.
        shape: Sizes of its axes, None for one of any size.
        dtype: The numpy name of its type, for example ``"float32"``; what the engine calls it where numpy has none.
        quantization: (scale, zero point) of an integer tensor that is quantized per tensor: a value stands for
            ``scale * (value - zero point)``. None for every other.
    """

    name: str
    shape: OpenShape
    dtype: str
    quantization: tuple[float, int] | None = None

    @property
    def shape_text(self) -> str:
        """See :func:`shape_text`."""
        return shape_text(self.shape)


@dataclass(frozen=True)
class Given:
    """What a user tells about the inputs of a file, each by the name of the input; ``""`` stands for the only one.

    Attributes:
        shapes: Shapes of inputs with axes of any size.
        values: The value of every element of an input, for one that takes no others, such as a sample rate.
        shared: Whether it is given to several files, each of which takes what has the name of one of its inputs, and
            ``""`` where its only input has an open axis. Otherwise every name has to be of an input.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    shared: bool = False


def settle(inputs: Sequence[TensorInfo], given: Given) -> dict[str, Shape]:
    """Give each input a shape without open axes.

    The first axis of an input is that of images in a batch; where it is open, it is 1.

    Args:
        inputs: The inputs of a file.
        given: Their shapes by name.

    Returns:
        A shape for each input, by name.

    Raises:
        ModelFileError: A shape is of no input, does not fit the input, or is missing.
    """
    names = [each.name for each in inputs]
    asked = _by_input(inputs, given.shapes, "shape", given.shared)
    for name, shape in asked.items():
        info = inputs[names.index(name)]
        if not _fits(shape, info.shape):
            raise ModelFileError(
                f"the shape {shape_text(shape)} does not fit the input {name}",
                info.shape_text,
                "Give a size for each ?, and the others as they are",
            )
    settled = {each.name: asked.get(each.name, _with_one_image(each.shape)) for each in inputs}
    if open_inputs := [each for each in inputs if None in settled[each.name]]:
        raise ModelFileError(
            "the size of an input is open: " + ", ".join(f"{each.name} is {each.shape_text}" for each in open_inputs),
            "a number for each ?",
            "Give one, such as "
            + " ".join(f"--input-shape {each.name}={_example(settled[each.name])}" for each in open_inputs),
        )
    return {name: tuple(size for size in shape if size is not None) for name, shape in settled.items()}


def draw(inputs: Sequence[TensorInfo], shapes: Mapping[str, Shape], given: Given, seed: int) -> list[Tensor]:
    """Draw an array for each input, of the right kind for timing.

    Floating-point inputs get values of 0 to 1, quantized and 8-bit ones every value that they have, other integers and
    booleans 0; the arithmetic of a convolution takes as long on any of them.

    Args:
        inputs: The inputs of a file.
        shapes: Their shapes, from :func:`settle`.
        given: Values by name.
        seed: Seed of the values.

    Raises:
        ModelFileError: A value is of no input, or an input has a type that numpy lacks.
    """
    asked = _by_input(inputs, given.values, "value", given.shared)
    random = np.random.default_rng(seed)
    return [_draw(each, shapes[each.name], asked.get(each.name), random) for each in inputs]


def _draw(info: TensorInfo, shape: Shape, value: float | None, random: np.random.Generator) -> Tensor:
    try:
        dtype = np.dtype(info.dtype)
    except TypeError as error:
        raise ModelFileError(
            f"the input {info.name} is of {info.dtype}", "numbers", "Time a model whose inputs are numbers"
        ) from error
    if value is not None:
        return np.full(shape, value).astype(dtype)
    if dtype.kind == "f":
        return random.random(shape, np.float32).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)


def _by_input(inputs: Sequence[TensorInfo], asked: Mapping[str, _Asked], what: str, shared: bool) -> dict[str, _Asked]:
    """What was asked, by the full name of the input."""
    names = [each.name for each in inputs]
    if shared:
        known = {*names, ""} if len(inputs) == 1 and None in inputs[0].shape else {*names}
        asked = {name: each for name, each in asked.items() if name in known}
    named = {(names[0] if not name and len(names) == 1 else name): each for name, each in asked.items()}
    if unknown := [name for name in named if name not in names]:
        raise ModelFileError(
            f"the model has no input {unknown[0]!r}" if unknown[0] else f"the model has {len(names)} inputs",
            ", ".join(f"{each.name} ({each.shape_text})" for each in inputs),
            f"Name one of them: --input-{what} NAME=...",
        )
    return named


def shape_text(shape: OpenShape) -> str:
    """A shape for a person: ``1x3x224x224``, with ``?`` for an axis of any size."""
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def _fits(shape: Shape, wanted: OpenShape) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == given for size, given in zip(wanted, shape, strict=True)
    )


def _with_one_image(shape: OpenShape) -> OpenShape:
    return tuple(1 if size is None and axis == 0 else size for axis, size in enumerate(shape))


def _example(shape: OpenShape) -> str:
    return shape_text(tuple(size or _EXAMPLE_SIDE for size in shape))
