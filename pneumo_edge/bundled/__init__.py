"""The trained models inside this package: an ``int8`` file for each backbone, with its model card beside it.

A bundled model is known by the name of its backbone. ``make cards`` writes the cards.
"""

from __future__ import annotations

import os
from pathlib import Path

from pneumo_edge.errors import ModelFileError

NAMES = ("mobilenetv2", "efficientnetb0")
#: The smaller and faster one.
DEFAULT = "mobilenetv2"


def path(name: str) -> Path:
    """The file of a bundled model; its card has the same name with the suffix ``.md``."""
    return Path(__file__).with_name(f"{name}-int8.tflite")


def find(model: str | os.PathLike[str]) -> Path:
    """The file for a bundled model's name or a path.

    A text that is exactly one of :data:`NAMES` is always the bundled model; anything else is a path. Model files are
    not affected, because their names have a suffix. For a folder of such a name, give ``./mobilenetv2`` or a ``Path``.

    Raises:
        ModelFileError: The text is empty; as a path it would be the current folder.
    """
    if not os.fspath(model):
        raise ModelFileError(
            "the path of the model is empty",
            f"that of a .tflite or .onnx file, or the name of a bundled model: {' or '.join(NAMES)}",
            "Check where the path comes from",
        )
    return path(model) if isinstance(model, str) and model in NAMES else Path(model)
