"""The interface of a kind of model file; each kind is a module beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Name of the ModelSpec in every kind of model file.
SPEC_NAME = "pneumo_edge_spec.json"
#: More of a ModelSpec's text is not read.
MAX_SPEC_BYTES = 1_000_000


@dataclass(frozen=True)
class Container:
    """A kind of model file, by what is done with its bytes.

    To write one takes the converters' libraries, see :mod:`pneumo_edge.converters.metadata`.

    Attributes:
        suffix: The ending of its name, for example ``".tflite"``.
        looks_right: Whether bytes begin as such a file does.
        find_text: Gives the ModelSpec's JSON text, cut off at :data:`MAX_SPEC_BYTES`; None or any exception where
            there is none, or the file is broken.
        hashed_parts: Gives all of the file but what may hold the ModelSpec, in its order; ValueError where the bytes
            are no such file.
    """

    suffix: str
    looks_right: Callable[[bytes], bool]
    find_text: Callable[[bytes], bytes | None]
    hashed_parts: Callable[[memoryview], Iterable[memoryview]]
