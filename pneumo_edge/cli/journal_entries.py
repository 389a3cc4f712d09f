"""Reads the results that an interrupted run left in its journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pneumo_edge._util import records
from pneumo_edge._util.records import Share, Text, Within
from pneumo_edge.runtime.identity import PredictorIdentity

_Milliseconds = Annotated[float, Within(0)]


@dataclass(frozen=True)
class _Stages:
    """:class:`pneumo_edge.runtime.classifier.Timings` in a journal."""

    read: _Milliseconds
    decode: _Milliseconds
    resize: _Milliseconds
    tensor: _Milliseconds
    inference: _Milliseconds
    decision: _Milliseconds


@dataclass(frozen=True)
class _PredictionEntry:
    """The result for a classified image in a journal."""

    source: str
    label: str
    probabilities: dict[str, Share]
    threshold: Share | None
    timings: _Stages
    total_ms: _Milliseconds
    prediction_set: tuple[str, ...] | None = None
    distance: Annotated[float, Within(0)] | None = None
    limit: Annotated[float, Within(0)] | None = None
    uncertain: bool | None = None
    foreign: bool | None = None

    def is_of(self, predictor: PredictorIdentity) -> bool:
        """Whether a predictor with these classes can have given it."""
        return self.label in predictor.class_names and set(self.probabilities) == set(predictor.class_names)


@dataclass(frozen=True)
class _FailureEntry:
    """The reason why an image was not classified, in a journal."""

    source: str
    error: Text


def is_entry_of(line: bytes, source: str, predictor: PredictorIdentity) -> bool:
    """Whether a line of a journal is that predictor's result for that image."""
    try:
        if b'"error"' in line:
            return records.loads(_FailureEntry, line).source == source
        entry = records.loads(_PredictionEntry, line)
    except records.RecordError:
        return False
    return entry.source == source and entry.is_of(predictor)
