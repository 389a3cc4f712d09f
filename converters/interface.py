"""The interface of the converters: functions from a trained Keras model to a model file, named in the formats table.

They run in the child process (:mod:`pneumo_edge.converters.isolated`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pneumo_edge.formats import Format
from pneumo_edge.task import Task

#: Representative pixels, uint8 of shape (images, height, width, 3), where the format is calibrated.
Calibration = npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class Network:
    """The input of a converter.

    Attributes:
        file: The ``.keras`` file of a functional model.
        task: The task that it was trained for.
    """

    file: Path
    task: Task


@dataclass(frozen=True)
class Converted:
    """The output of a converter.

    Attributes:
        content: The model file without a ModelSpec: one input, ``image``, and the outputs of a model file,
            ``probability`` first.
        share: The share of a feature map's values below the upper end of its quantization range, and above the lower
            end; 1 where there are no such ranges.
    """

    content: bytes
    share: float = 1.0


class Converter(Protocol):
    """The function that a row of the table names."""

    def __call__(self, network: Network, calibration: Calibration) -> Converted:
        """Convert a trained model.

        Args:
            network: The trained model.
            calibration: See :data:`Calibration`.

        Raises:
            ConversionError: A device could not use the file.
        """
        ...


def make(network: Network, row: Format, calibration: Calibration, target: Path) -> float:
    """Convert a trained model to a file without a ModelSpec.

    Args:
        network: The trained model.
        row: A row of the formats table.
        calibration: See :data:`Calibration`.
        target: The file to write.

    Returns:
        :attr:`Converted.share`.

    Raises:
        ConversionError: As the row's :class:`Converter`.
    """
    converted = _find(row)(network, calibration)
    target.write_bytes(converted.content)
    return converted.share


def representative(calibration: Calibration) -> npt.NDArray[np.uint8]:
    """The representative dataset, for a converter that needs one.

    Raises:
        ValueError: There is none, because the format is not marked as calibrated in the table.
    """
    if calibration is None:
        raise ValueError("this converter needs a representative dataset, and the format is not calibrated")
    return calibration


def _find(row: Format) -> Converter:
    module, _, function = row.converter.partition(":")
    found: Converter = getattr(importlib.import_module(module, __package__), function)
    return found
