"""Scores model files on a split of a data set, and writes probabilities, metrics, a page and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import files
from pneumo_edge.scoring import figures, page, summary
from pneumo_edge.scoring.scores import EvaluationScores
from pneumo_edge.scoring.summary import Metrics


@dataclass(frozen=True)
class Paths:
    """The files of an evaluation."""

    metrics: Path
    page: Path
    roc: Path
    reliability: Path


def paths(folder: Path) -> tuple[Path, ...]:
    """The files that :func:`write` writes, in the order of :class:`Paths`."""
    return tuple(folder / name for name in ("metrics.json", "evaluation.md", "roc.png", "reliability.png"))


def write(scores: EvaluationScores, folder: Path) -> tuple[Metrics, Paths]:
    """Compute all metrics of scores, and write metrics, page and figures, each atomically.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The folder cannot be written.
    """
    computed = summary.compute(scores)
    written = Paths(*paths(folder))
    summary.write(written.metrics, computed)
    files.write_text(written.page, page.render(scores, computed))
    figures.draw_roc(scores, computed, written.roc)
    figures.draw_reliability(computed, written.reliability)
    return computed, written
