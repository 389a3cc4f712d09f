"""Cells of tables that show intervals, claims, and what model files were trained on."""

from __future__ import annotations

from collections.abc import Iterable

from pneumo_edge._util.document import Cell
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.networks import Leaning
from pneumo_edge.evaluation.seeds import OverSeeds
from pneumo_edge.scoring.models import Model
from pneumo_edge.scoring.scores import ScoredModel
from pneumo_edge.spec import data_use


def interval(found: Interval | None, *, signed: bool = False) -> Cell:
    """A value with its interval, in three decimals; with a sign where it is a difference."""
    if found is None:
        return Cell("not defined")
    number = "{:+.3f}" if signed else "{:.3f}"
    value, low, high = (number.format(end) for end in (found.value, found.low, found.high))
    return Cell(value, f"[{low}, {high}]")


def spread(found: OverSeeds | None, *, signed: bool = False) -> Cell:
    """A mean over seeds ± the standard deviation of a single run, with the interval of the mean."""
    if found is None:
        return Cell("not defined")
    cell = interval(found.mean, signed=signed)
    return Cell(f"{cell.text} ± {found.sd:.3f}", cell.detail)


def claim(found: Leaning) -> Cell:
    """The outcome of a claim, with its p-value."""
    return Cell(found.outcome, p_value(found.p))


def trained_on(model: Model | ScoredModel) -> Cell:
    """The data that a model file was trained on; or, where that is not known, measured on."""
    use = data_use(model.format, model.recipe, model.threshold)
    name = model.measured_on or model.trained_on
    return Cell(name if use == "trained on" else f"not known; {use} {name}")


def phantom_models(models: Iterable[Model | ScoredModel]) -> list[str]:
    """For a warning: what was done with phantom images, a clause for each use."""
    found: dict[str, set[str]] = {}
    for model in models:
        if not model.trained_on_real:
            use = data_use(model.format, model.recipe, model.threshold)
            found.setdefault(use, set()).add(model.measured_on or model.trained_on)
    clauses = {
        "trained on": "models were trained on",
        "threshold chosen on": "thresholds were chosen on",
        "measured on": "models were measured on",
    }
    return [f"{clauses[use]} {', '.join(sorted(names))}" for use, names in sorted(found.items(), reverse=True)]
