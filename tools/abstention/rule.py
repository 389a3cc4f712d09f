"""What the rule for uncertain answers was chosen by, for docs/uncertain-answers.md: ``make uncertain-rule``.

The bounds are calibrated on one half of the patients and counted on the other, with the answers of the run of the
recipe ``robust`` that the rule was developed with. No test image is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge.data.patients import parse_patient
from pneumo_edge.data.run_records import read_validation
from pneumo_edge.evaluation.conformal import COVERAGE, ConformalBounds, conformal_bounds, widen
from pneumo_edge.evaluation.metrics import Labels, Scores, decide
from pneumo_edge.evaluation.operating_point import sensitivity_threshold
from pneumo_edge.runs import COUNTERFACTUAL
from pneumo_edge.training.shifts import SHIFTS
from tools import pages

RUN = Path("results", "training", "mobilenetv2-robust-0")
PAGE = Path("docs", "uncertain-answers.md")
_REPETITIONS, _FOLDS = 5, 2
#: Shifts that change an image so much that a person sees it at once.
_STRONG = ("compressed", "collimated")

Mask = npt.NDArray[np.bool_]
_Bounds = Callable[[Labels, Mapping[str, Scores], Sequence[str]], ConformalBounds]


@dataclass
class _Counted:
    """Images, errors, flagged images, flagged errors; images of each class, and those whose set has it."""

    images: int = 0
    errors: int = 0
    flagged: int = 0
    flagged_errors: int = 0
    of_class: tuple[int, int] = (0, 0)
    covered: tuple[int, int] = (0, 0)

    def add(self, labels: Labels, scores: Scores, threshold: float, bounds: ConformalBounds) -> None:
        """Count some images."""
        kept = np.stack([scores <= bounds.most_negative, scores >= bounds.least_positive], axis=1)
        images, decided = np.arange(len(labels)), decide(scores, threshold)
        flagged, wrong = ~(kept[images, decided] & (kept.sum(axis=1) == 1)), decided != labels
        self.images += len(labels)
        self.errors += int(wrong.sum())
        self.flagged += int(flagged.sum())
        self.flagged_errors += int((wrong & flagged).sum())
        covered = kept[images, labels]
        negative, positive = ((labels == place) for place in (0, 1))
        self.of_class = (self.of_class[0] + int(negative.sum()), self.of_class[1] + int(positive.sum()))
        self.covered = (self.covered[0] + int(covered[negative].sum()), self.covered[1] + int(covered[positive].sum()))


def table(run: Path) -> str:
    """A row for each group of images: what is flagged with the 95 % alone, and with the rule."""
    labels, columns = read_validation(run / "validation.csv")
    names = [line.split(",")[0] for line in (run / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]]
    patients = np.array([(parse_patient(Path(name).stem) or (name, ""))[0] for name in names])
    threshold = sensitivity_threshold(labels, columns["probability"], 0.95)
    changed = [column for column in columns if column.startswith(COUNTERFACTUAL)]
    mild = [name for name in SHIFTS if name not in _STRONG]
    groups = {
        "unchanged": ["probability"],
        "counterfactual": changed,
        ", ".join(mild): mild,
        "these, " + " and ".join(_STRONG): list(SHIFTS),
    }

    def alone(labels: Labels, columns: Mapping[str, Scores], patients: Sequence[str]) -> ConformalBounds:
        return conformal_bounds(labels, columns["probability"], patients, COVERAGE)

    def widened(labels: Labels, columns: Mapping[str, Scores], patients: Sequence[str]) -> ConformalBounds:
        exchanged = {column: columns[column] for column in changed}
        found = alone(labels, columns, patients)
        return widen(found, labels, columns["probability"], exchanged, patients, threshold)

    heading = (
        "images",
        "errors",
        "flagged before",
        "errors flagged before",
        "flagged now",
        "errors flagged now",
        "coverage now, NORMAL",
        "PNEUMONIA",
    )
    rows = [heading, ("---",) * len(heading)]
    before, now = (_count(rule, labels, columns, patients, threshold, groups) for rule in (alone, widened))
    for group in groups:
        one, other = before[group], now[group]
        rows.append(
            (
                group,
                _percent(one.errors, one.images),
                _percent(one.flagged, one.images),
                _percent(one.flagged_errors, one.errors),
                _percent(other.flagged, other.images),
                _percent(other.flagged_errors, other.errors),
                *(f"{part / whole:.3f}" for part, whole in zip(other.covered, other.of_class, strict=True)),
            )
        )
    return pages.rows(rows)


def _count(
    rule: _Bounds,
    labels: Labels,
    columns: Mapping[str, Scores],
    patients: npt.NDArray[np.str_],
    threshold: float,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, _Counted]:
    counted = {group: _Counted() for group in groups}
    for known in _halves(patients):
        given = {column: scores[known] for column, scores in columns.items()}
        bounds = rule(labels[known], given, patients[known].tolist())
        for group, members in groups.items():
            for column in members:
                counted[group].add(labels[~known], columns[column][~known], threshold, bounds)
    return counted


def _halves(patients: npt.NDArray[np.str_]) -> Iterator[Mask]:
    """Which images calibrate: those of half of the patients, and then of the other half."""
    everyone = np.unique(patients)
    for seed in range(_REPETITIONS):
        fold = np.random.default_rng(seed).permutation(len(everyone)) % _FOLDS
        of_image = fold[np.searchsorted(everyone, patients)]
        for place in range(_FOLDS):
            yield of_image != place


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def main() -> None:
    """Put the table into the page."""
    pages.put_table(PAGE, "uncertain-rule", table(RUN))


if __name__ == "__main__":
    main()
