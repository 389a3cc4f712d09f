"""Whether a model file may be used on another population, by what its validation promised.

The rule: AUC, sensitivity and specificity (without a positive class, AUC and balanced accuracy) each lie at most 0.05
below their value on validation. A model may be used where the whole interval of each lies above that, and not where the
whole interval of one lies below. Where images that the input check finds out-of-distribution are the reason, it may be
used on the others alone. Everything else cannot be said, nor can it be said of too few images that a model may be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pneumo_edge._util.records import Count, Share
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.outcomes import settle

#: How far below its value on validation a metric may lie.
MARGIN = 0.05
#: The metrics that decide, of two classes and of more.
DECIDING = ("auc", "sensitivity", "specificity")
DECIDING_OF_CLASSES = ("auc", "balanced_accuracy")
#: Whether a model may be used: on all images, on those that are not out-of-distribution, not, or it cannot be said.
Use = Literal["yes", "in distribution", "no", "unknown"]
_WORDS = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}


@dataclass(frozen=True)
class InDistribution:
    """The images that the input check of a file does not find out-of-distribution.

    Attributes:
        classes: Images by class name.
        metrics: The metrics of :class:`~pneumo_edge.scoring.summary.ModelMetrics` on these images; empty where a class
            has fewer than two of them.
        shortage: What they lack for a claim; "" for nothing.
    """

    classes: dict[str, Count]
    metrics: dict[str, Interval | None]
    shortage: str


@dataclass(frozen=True)
class External:
    """What another population shows of a model file.

    Attributes:
        use: Whether the file may be used there.
        sentence: The same in words, with the numbers that decided.
        promised: The deciding metrics on validation; empty in a file that does not say.
        out_of_distribution: Share of images that are; None in a file without an input check.
        in_distribution: The others; None in a file without an input check.
    """

    use: Use
    sentence: str
    promised: dict[str, Share]
    out_of_distribution: Interval | None
    in_distribution: InDistribution | None


def decide(
    file: str,
    validation: Mapping[str, float],
    found: Mapping[str, Interval | None],
    shortage: str,
    out_of_distribution: Interval | None,
    in_distribution: InDistribution | None,
) -> External:
    """Apply the rule.

    Args:
        file: Name of the model file.
        validation: Its metrics on validation, from its ModelSpec.
        found: Its metrics on all images of the other population.
        shortage: What these lack for a claim; "" for nothing.
        out_of_distribution: See :class:`External`.
        in_distribution: See :class:`External`.
    """
    names = DECIDING_OF_CLASSES if "balanced_accuracy" in validation else DECIDING
    promised = {name: validation[name] for name in names if name in validation}
    use, sentence = _decide(f"`{file}`", promised, names, found, shortage, in_distribution)
    if out_of_distribution:
        sentence += f" Of these images, {out_of_distribution.value:.1%} are out-of-distribution."
    return External(use, sentence, promised, out_of_distribution, in_distribution)


def _decide(
    file: str,
    promised: Mapping[str, float],
    names: tuple[str, ...],
    found: Mapping[str, Interval | None],
    shortage: str,
    familiar: InDistribution | None,
) -> tuple[Use, str]:
    unknown = f"Whether {file} may be used on these images cannot be said"
    if len(promised) < len(names):
        return "unknown", f"{unknown}: the file has no metrics of its validation images."
    outcomes = _settle(promised, found)
    if not shortage and all(outcome == "supported" for outcome in outcomes.values()):
        return "yes", f"{file} may be used on these images, for research: {_kept(promised, found)}."
    if familiar and not familiar.shortage:
        inside = _settle(promised, familiar.metrics)
        if all(outcome == "supported" for outcome in inside.values()):
            return (
                "in distribution",
                f"{file} may be used, for research, only on those of these images that its input check does not find "
                f"out-of-distribution: {_kept(promised, familiar.metrics)}.",
            )
    if broken := [name for name, outcome in outcomes.items() if outcome == "refuted"]:
        return "no", f"{file} may not be used on these images: {_beside(broken, promised, found)}."
    if shortage:
        return "unknown", f"{unknown}: {shortage}."
    open_ones = [name for name, outcome in outcomes.items() if outcome == "not separable"]
    return (
        "unknown",
        f"{unknown}: {_beside(open_ones, promised, found)}, and the interval does not settle whether it lies at most "
        f"{MARGIN:g} below.",
    )


def _settle(promised: Mapping[str, float], found: Mapping[str, Interval | None]) -> dict[str, str]:
    intervals = {name: found.get(name) for name in promised}
    return {
        name: settle(interval, promised[name] - MARGIN) if interval else "not separable"
        for name, interval in intervals.items()
    }


def _kept(promised: Mapping[str, float], found: Mapping[str, Interval | None]) -> str:
    numbers = ", ".join(f"{_word(name)} {found[name]}" for name in promised)
    return f"{numbers}, each at most {MARGIN:g} below validation"


def _beside(names: list[str], promised: Mapping[str, float], found: Mapping[str, Interval | None]) -> str:
    return ", ".join(
        f"{_word(name)} is {found.get(name) or 'not defined'}, on validation {promised[name]:.3f}" for name in names
    )


def _word(name: str) -> str:
    return _WORDS.get(name, name)
