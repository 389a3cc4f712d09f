"""Checkpoint of a training: weights, optimizer and dropout generators of a network in one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import extras, files
from pneumo_edge.errors import TrainingError

#: Name of the HDF5 data set with the generators' states, in addition to what Keras writes into the file.
_GENERATORS = "pneumo_edge_seed_generators"
#: Most characters of a library's message that an error quotes.
_MAX_REASON = 300


def save(model: Any, path: Path) -> None:
    """Write the state that is needed to resume fitting. The file is complete or absent.

    Keras writes weights and optimizer, but not the states of random generators. Without them, the dropout masks of a
    resumed run would start again from the first.

    Args:
        model: A compiled ``keras.Model``.
        path: A file whose name ends in ``.weights.h5``.
    """
    h5py = extras.need("h5py", "train")
    with files.atomic(path) as temporary:
        model.save_weights(temporary)
        with h5py.File(temporary, "a") as stored:
            stored[_GENERATORS] = np.array(
                [np.asarray(state) for state in _generators(model)], dtype=np.uint32
            ).reshape(-1, 2)


def load_weights(model: Any, path: Path) -> None:
    """Load the weights of a file into a model; its generators do not change.

    Raises:
        TrainingError: The file is missing, damaged, or of another network.
    """
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py document no common base class for a broken file
        raise broken(path, error) from error


def restore(model: Any, path: Path) -> None:
    """Load the state of :func:`save` into a model of the same structure, compiled with the same arguments.

    A checkpoint of an older version without generators is restored without them, with a warning on standard error.

    Raises:
        TrainingError: The file is missing, damaged, or of another network.
    """
    h5py = extras.need("h5py", "train")
    generators = _generators(model)
    load_weights(model, path)
    try:
        with h5py.File(path, "r") as stored:
            states = stored[_GENERATORS][:] if _GENERATORS in stored else None
        if states is not None and states.shape != (len(generators), 2):
            raise ValueError(f"it has {len(states)} generators for {len(generators)} layers of dropout")
    except (OSError, ValueError) as error:
        raise broken(path, error) from error
    if states is None:
        if generators:
            print(
                f"warning: {path} is of an older version, without the state of dropout. The run resumes, but its "
                "result will not be bit for bit that of an uninterrupted run.",
                file=sys.stderr,
            )
        return
    for generator, state in zip(generators, states, strict=True):
        generator.assign(state)


def broken(path: Path, error: Exception) -> TrainingError:
    """Make the error for a checkpoint file that cannot be read."""
    return TrainingError(
        f"the checkpoint {path} cannot be read ({str(error)[:_MAX_REASON]})",
        "the file as an interrupted run wrote it",
        "Copy it again, or remove its folder to repeat that phase",
    )


def _generators(model: Any) -> list[Any]:
    """Return the state variables of the random generators of all layers, in the order of the layers."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
