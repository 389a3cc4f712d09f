"""The raw results: what a file says of each image, and what is computed from that alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files, records
from pneumo_edge._util.records import Share, Within
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.conformal import Answered, ConformalBounds, evaluate_sets
from pneumo_edge.evaluation.metrics import Interval, Labels, Scores, confusion, wilson
from pneumo_edge.spec import ConformalSpec, InputCheckSpec

SCHEMA_VERSION = 1

_Distance = Annotated[float, Within(0)]


@dataclass(frozen=True)
class PredictedImages:
    """The test split, image by image: 1 for the positive class, its probability, and the distance of the input check.

    ``distances`` is empty where the file has no input check.
    """

    labels: tuple[Annotated[int, Within(0, 1)], ...]
    probabilities: tuple[Share, ...]
    distances: tuple[_Distance, ...]

    def __post_init__(self) -> None:
        if not self.labels or len(self.labels) != len(self.probabilities):
            raise ValueError(f"there are {len(self.labels)} labels and {len(self.probabilities)} probabilities")
        if self.distances and len(self.distances) != len(self.labels):
            raise ValueError(f"there are {len(self.labels)} labels and {len(self.distances)} distances")


@dataclass(frozen=True)
class OutOfDistributionImages:
    """Images of a kind that the model was not made for: their distances, and whether they are X-rays of children."""

    kind: str
    subtle: bool
    distances: tuple[_Distance, ...]

    def flagged(self, check: InputCheckSpec) -> Interval:
        """Share of them that the input check flags."""
        return _share_above(self.distances, check)


@dataclass(frozen=True)
class FileResults:
    """Everything that was measured of a model file on one engine."""

    file: str
    sha256: str
    backbone: str
    format: str
    engine: str
    engine_version: str
    data: str
    threshold: Share
    conformal: ConformalSpec
    input_check: InputCheckSpec | None
    test: PredictedImages
    foreign: tuple[OutOfDistributionImages, ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version > SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, newer than {SCHEMA_VERSION}")
        if self.input_check and not self.test.distances:
            raise ValueError("test has no distances, and there is an input check")

    def answered(self) -> Answered:
        """What the prediction sets are worth on test."""
        least, most = self.conformal.least_positive, self.conformal.most_negative
        assert least is not None and most is not None, "these are files of two classes"
        bounds = ConformalBounds(least, most)
        return evaluate_sets(*self._labels_and_scores(), self.threshold, bounds)

    def false_alarms(self) -> Interval:
        """Share of the test images that the input check flags."""
        return _share_above(self.test.distances, self.input_check)

    def accuracy(self, *, flagged: bool) -> Interval:
        """Share of right decisions among the test images that the input check flags, or does not."""
        labels, scores = self._labels_and_scores()
        chosen = _above(self.test.distances, self.input_check) == flagged
        return confusion(labels[chosen], scores[chosen] >= self.threshold).accuracy

    def _labels_and_scores(self) -> tuple[Labels, Scores]:
        return np.array(self.test.labels, dtype=np.int64), np.array(self.test.probabilities)


def _above(distances: tuple[float, ...], check: InputCheckSpec | None) -> npt.NDArray[np.bool_]:
    if check is None:
        raise ValueError("the file has no input check")
    return np.asarray(np.array(distances) > check.limit)


def _share_above(distances: tuple[float, ...], check: InputCheckSpec | None) -> Interval:
    above = _above(distances, check)
    return wilson(int(above.sum()), len(above))


def path(folder: Path, file: str) -> Path:
    """Where the results of a model file lie."""
    return folder / f"{file}.json"


def write(results: FileResults, folder: Path) -> None:
    """Write results as JSON on one line."""
    files.write_text(path(folder, results.file), records.document(results, indent=None))


def read(file: Path) -> FileResults:
    """Read results.

    Raises:
        ResultsError: They are missing or damaged.
    """
    try:
        return records.loads(FileResults, file.read_bytes())
    except (OSError, records.RecordError) as error:
        raise ResultsError(
            f"{file} cannot be read ({error})", "results of `make uncertain`", "Make them again, with DATA="
        ) from error
