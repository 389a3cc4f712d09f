"""Makes the files of the ``tiny_models`` fixture: ``python tiny_model.py FOLDER``.

A program of its own and not a module of the tests, so that the converters' child process finds it.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge.converters import interface, isolated, metadata
from pneumo_edge.formats import FORMATS
from pneumo_edge.spec import (
    HEATMAP,
    CalibrationSpec,
    DataSpec,
    DecisionSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    TrainingSpec,
    VerificationSpec,
)

SIZE = 224
PATCH = 16
#: Logit of PNEUMONIA per unit of mean brightness on a scale of -1 to 1; that of NORMAL is its negative.
STEEPNESS = 3.0

SPEC = ModelSpec(
    name="tiny-fp32",
    backbone="tiny",
    format="fp32",
    class_names=("NORMAL", "PNEUMONIA"),
    input=InputSpec(SIZE, SIZE, 3, "float32", "bilinear"),
    decision=DecisionSpec("PNEUMONIA", 0.5, "set by hand", "nothing"),
    temperature=1.0,
    data=DataSpec("no data", True, "0" * 64, {"train": {"NORMAL": 1, "PNEUMONIA": 2}}, "none"),
    training=TrainingSpec("by hand", 0, "no", 0, {"auc": 1.0}),
    versions={"pneumo-edge": "0.1.0"},
    notice="A test's model: bright images are PNEUMONIA.",
    outputs=(OutputSpec(HEATMAP, (SIZE // PATCH, SIZE // PATCH), "What each patch speaks for PNEUMONIA."),),
    verification=VerificationSpec({"litert": "2"}, 3, "no data", {"max_difference": 1e-3}, {"litert": {"images": 3.0}}),
)


def save_keras(target: Path) -> None:
    """Save a network that calls bright images PNEUMONIA, with weights set by hand."""
    import keras

    image = keras.Input((SIZE, SIZE, 3), name="image")
    tensor = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    patches = keras.layers.Conv2D(2, PATCH, strides=PATCH, activation="relu", name="patches")
    tensor = keras.layers.GlobalAveragePooling2D()(patches(tensor))
    logits = keras.layers.Dense(2, name="logits")
    probability = keras.layers.Softmax(name="probability")(logits(tensor))
    model = keras.Model(image, probability)
    _set_weights(patches, logits)
    model.save(target)


def save_tapped(target: Path) -> None:
    """Save the same with a backbone as large networks have it: in its middle it adds two branches."""
    import keras

    pixels = keras.Input((SIZE, SIZE, 3))
    patches = keras.layers.Conv2D(2, PATCH, strides=PATCH, activation="relu", name="patches")(pixels)
    branch = keras.layers.Conv2D(2, 1, kernel_initializer="zeros", name="branch")(patches)
    backbone = keras.Model(pixels, keras.layers.Add()([patches, branch]), name="backbone")
    image = keras.Input((SIZE, SIZE, 3), name="image")
    tensor = backbone(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image))
    logits = keras.layers.Dense(2, name="logits")
    tensor = logits(keras.layers.GlobalAveragePooling2D()(tensor))
    model = keras.Model(image, keras.layers.Softmax(name="probability")(tensor))
    _set_weights(backbone.get_layer("patches"), logits)
    model.save(target)


def _set_weights(patches: Any, logits: Any) -> None:
    # The channels count differently, so that their order shows; grey images have all three alike.
    mean = np.broadcast_to(np.array([0.5, 0.3, 0.2])[:, np.newaxis] / PATCH**2, (PATCH, PATCH, 3, 1))
    patches.set_weights([np.concatenate([mean, -mean], axis=-1), np.zeros(2)])
    logits.set_weights([STEEPNESS * np.array([[-1.0, 1.0], [1.0, -1.0]]), np.zeros(2)])


def _calibration() -> npt.NDArray[np.uint8]:
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    return np.broadcast_to(levels[:, np.newaxis, np.newaxis, np.newaxis], (16, SIZE, SIZE, 3)).copy()


def main(folder: Path) -> None:
    """Make ``tiny-*.tflite`` and ``tiny-*.onnx`` in a folder, and in ``bare`` the same without a ModelSpec."""
    bare = folder / "bare"
    bare.mkdir(parents=True)
    network = interface.Network(folder / "tiny.keras", SPEC.task)
    with isolated.child_process(folder / "converter.log") as child:
        child.call(save_keras, network.file)
        child.call(save_tapped, folder / "tapped.keras")
        for row in (FORMATS["tflite-fp32"], FORMATS["tflite-int8"], FORMATS["onnx-fp32"]):
            name = row.file_name("tiny")
            child.call(interface.make, network, row, _calibration() if row.calibrated else None, bare / name)
            spec = replace(
                SPEC,
                name=f"tiny-{row.name}",
                format=row.name,
                input=replace(SPEC.input, dtype=row.input_dtype),
                calibration=CalibrationSpec(16, "0" * 64) if row.calibrated else None,
            )
            metadata.write_spec(bare / name, folder / name, spec)


if __name__ == "__main__":
    # The child process finds functions by the name of their module, and its own is __main__, too.
    importlib.import_module("tiny_model").main(Path(sys.argv[1]))
