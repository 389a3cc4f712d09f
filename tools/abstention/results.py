"""The raw results: what a file says of each image, and what is computed from that alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files, records
from pneumo_edge._util.records import Count, Share, Within
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.conformal import Answered, ConformalBounds, evaluate_class_sets, evaluate_sets
from pneumo_edge.evaluation.metrics import Interval, Scores, decide, wilson
from pneumo_edge.spec import ConformalSpec, InputCheckSpec

SCHEMA_VERSION = 1

_Distance = Annotated[float, Within(0)]


@dataclass(frozen=True)
class PredictedImages:
    """The test split, image by image: 1 for the positive class, its probability, and the distance of the input check.

    Without a positive class, ``labels`` are places of classes and ``class_probabilities`` has the probability of every
    class; ``probabilities`` is then empty. ``distances`` is empty where the file has no input check.
    """

    labels: tuple[Count, ...]
    probabilities: tuple[Share, ...]
    distances: tuple[_Distance, ...]
    class_probabilities: tuple[tuple[Share, ...], ...] = ()

    @property
    def scores(self) -> Scores:
        """Of shape (images,), or (images, classes) without a positive class."""
        return np.array(self.class_probabilities or self.probabilities, dtype=np.float64)

    def __post_init__(self) -> None:
        count = len(self.class_probabilities or self.probabilities)
        if not self.labels or len(self.labels) != count or (self.class_probabilities and self.probabilities):
            raise ValueError(f"there are {len(self.labels)} labels and {count} probabilities")
        classes = {len(each) for each in self.class_probabilities} or {2}
        if len(classes) > 1 or max(self.labels) >= min(classes):
            raise ValueError("labels are not places among the classes")
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
    """Everything that was measured of a model file on one engine.

    ``class_names`` are in the order of the labels of ``test``: of two classes, the positive one is the second.
    ``full_resolution`` has the distances of X-rays that were not reduced beforehand; it is empty where none were given.
    """

    file: str
    sha256: str
    backbone: str
    format: str
    engine: str
    engine_version: str
    data: str
    threshold: Share | None
    conformal: ConformalSpec
    input_check: InputCheckSpec | None
    test: PredictedImages
    foreign: tuple[OutOfDistributionImages, ...]
    class_names: tuple[str, ...] = ("NORMAL", "PNEUMONIA")
    full_resolution: tuple[_Distance, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version > SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, newer than {SCHEMA_VERSION}")
        if self.input_check and not self.test.distances:
            raise ValueError("test has no distances, and there is an input check")
        columns = len(self.test.class_probabilities[0]) if self.test.class_probabilities else 2
        if len(self.class_names) != columns or (self.threshold is None) != bool(self.test.class_probabilities):
            raise ValueError(f"class_names, threshold and probabilities of test are not of {columns} classes")
        least = self.conformal.least
        if (self.threshold is None) != (least is not None) or (least and least.keys() != set(self.class_names)):
            raise ValueError(f"conformal is not for the classes {list(self.class_names)}")

    def answered(self) -> Answered:
        """What the prediction sets are worth on test."""
        labels, conformal = np.array(self.test.labels, dtype=np.int64), self.conformal
        if self.threshold is None or conformal.least_positive is None or conformal.most_negative is None:
            least = conformal.least or {}
            return evaluate_class_sets(labels, self.test.scores, [least[name] for name in self.class_names])
        bounds = ConformalBounds(conformal.least_positive, conformal.most_negative)
        return evaluate_sets(labels, self.test.scores, self.threshold, bounds)

    def false_alarms(self) -> Interval:
        """Share of the test images that the input check flags."""
        return _share_above(self.test.distances, self.input_check)

    def full_resolution_alarms(self) -> Interval:
        """Share of the X-rays at full resolution that the input check flags."""
        return _share_above(self.full_resolution, self.input_check)

    def accuracy(self, *, flagged: bool) -> Interval:
        """Share of right decisions among the test images that the input check flags, or does not."""
        chosen = _above(self.test.distances, self.input_check) == flagged
        right = decide(self.test.scores, self.threshold) == np.array(self.test.labels)
        return wilson(int(right[chosen].sum()), int(chosen.sum()))


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
