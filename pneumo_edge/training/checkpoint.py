"""A network in the middle of training, as one file: weights, optimizer, and the generators of its dropout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import extras, files
from pneumo_edge.errors import TrainingError

#: Name of the data set that holds the generators' states, beside what Keras writes into the file.
_GENERATORS = "pneumo_edge_seed_generators"
#: The most of a library's words that an error quotes.
_MAX_REASON = 300


def save(model: Any, path: Path) -> None:
    """Write all state that fitting goes on from; the file is whole or not there.

    Keras writes weights and optimizer, and leaves out the states of random generators. Without those, dropout would
    begin its masks anew in a run that is resumed.

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
    """Give a model the weights of a file, and leave its generators as they are.

    Raises:
        TrainingError: The file is missing, damaged, or of another network.
    """
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py promise no common base class for a broken file
        raise broken(path, error) from error


def restore(model: Any, path: Path) -> None:
    """Give a model of the same structure, compiled alike, the state of :func:`save`.

    A checkpoint of a version that kept no generators is restored without them, and standard error says so.

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
            raise ValueError(f"it holds {len(states)} generators for {len(generators)} layers of dropout")
    except (OSError, ValueError) as error:
        raise broken(path, error) from error
    if states is None:
        if generators:
            print(
                f"warning: {path} is of a version that did not keep the state of dropout. The run goes on, and its "
                "result is not bit for bit that of an uninterrupted run.",
                file=sys.stderr,
            )
        return
    for generator, state in zip(generators, states, strict=True):
        generator.assign(state)


def broken(path: Path, error: Exception) -> TrainingError:
    """The error of a file of a checkpoint that cannot be read."""
    return TrainingError(
        f"the checkpoint {path} cannot be read ({str(error)[:_MAX_REASON]})",
        "what an interrupted run left there",
        "Copy it again, or remove its folder to begin that phase again",
    )


def _generators(model: Any) -> list[Any]:
    """State variables of the random generators of all layers, in the order of the layers."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
