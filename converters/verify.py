"""The gate: no file leaves unverified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from converters.formats import Bounds, Format
from pneumo_edge import extras
from pneumo_edge.errors import GateError
from pneumo_edge.evaluation.metrics import Labels, Scores, auc
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.progress import track
from pneumo_edge.runtime import engines
from pneumo_edge.spec import VerificationSpec

#: The first engine sees every validation image; the others, some of them far slower, see this many.
_IMAGES_ON_FURTHER_ENGINES = 100
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reference:
    """Validation images and what the Keras model says of them.

    ``pixels`` is uint8 of shape (images, height, width, 3); ``scores`` holds the probability of the
    positive class at index ``positive`` of the output, ``threshold`` and its ``rule`` are the run's.
    """

    pixels: npt.NDArray[np.uint8]
    labels: Labels
    scores: Scores
    positive: int
    threshold: float
    rule: ThresholdRule
    described: str


@dataclass(frozen=True)
class Measured:
    """A file on one engine against the Keras model; the fields mirror :class:`Bounds`."""

    max_difference: float
    mean_difference: float
    agreement: float
    auc_loss: float
    images: int


@dataclass(frozen=True)
class Verified:
    """A file that passed: the threshold to ship with it, and the record of the gate."""

    threshold: float
    verification: VerificationSpec


def verify(path: Path, row: Format, reference: Reference) -> Verified:
    """Run a file on every installed engine that its format promises, and hold it to its bounds.

    Args:
        path: The converted file; it needs no ModelSpec yet.
        row: Its format.
        reference: From the Keras model.

    Raises:
        GateError: A bound was missed, or an engine refused the file or gave something else than
            probabilities.
        MissingExtraError: None of the engines is installed.
    """
    rows = [engines.ENGINES[name] for name in row.engines]
    installed = [engine for engine in rows if extras.is_installed(engine.library)]
    if not installed:
        raise engines.none_installed(f"no engine that can verify {row.id} is installed", rows)
    threshold = reference.threshold
    measured: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}
    for position, info in enumerate(installed):
        engine = engines.load(path, info)
        versions[engine.name] = engine.version
        chosen = _subset(reference, None if position == 0 else _IMAGES_ON_FURTHER_ENGINES)
        scores = np.fromiter(_scores(engine, row, chosen, path), np.float64, len(chosen.labels))
        if not np.isfinite(scores).all():
            raise _missed(path, engine.name, "probabilities that are not finite", "finite ones")
        if position == 0 and row.calibrated:
            threshold = choose_threshold(reference.rule, chosen.labels, scores)
        result = _compare(scores, chosen, threshold, row.bounds)
        _hold(result, row.bounds, path, engine.name)
        measured[engine.name] = asdict(result)
    return Verified(
        threshold,
        VerificationSpec(versions, len(reference.labels), reference.described, asdict(row.bounds), measured),
    )


def _subset(reference: Reference, count: int | None) -> Reference:
    """Every image, or ``count`` of them evenly spread, which keeps the classes' shares."""
    if count is None or count >= len(reference.labels):
        return reference
    order = np.argsort(reference.labels, kind="stable")
    kept = order[np.linspace(0, len(order) - 1, count).astype(int)]
    return replace(
        reference, pixels=reference.pixels[kept], labels=reference.labels[kept], scores=reference.scores[kept]
    )


def _scores(engine: engines.Engine, row: Format, reference: Reference, path: Path) -> Iterator[float]:
    for pixels in track(reference.pixels, f"Verifying {path.name} on {engine.name}"):
        output = engine.run(pixels[np.newaxis].astype(row.input_dtype))
        yield float(output[reference.positive])


def _compare(scores: Scores, reference: Reference, threshold: float, bounds: Bounds) -> Measured:
    difference = np.abs(scores - reference.scores)
    same = (scores >= threshold) == (reference.scores >= reference.threshold)
    decided = np.abs(reference.scores - reference.threshold) > bounds.undecided
    return Measured(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        agreement=float(np.mean(same | ~decided)),
        auc_loss=auc(reference.labels, reference.scores) - auc(reference.labels, scores),
        images=len(scores),
    )


def _hold(measured: Measured, bounds: Bounds, path: Path, engine: str) -> None:
    for what, value, most in (
        ("largest difference of probability", measured.max_difference, bounds.max_difference),
        ("mean difference of probability", measured.mean_difference, bounds.mean_difference),
        ("share of changed decisions", 1 - measured.agreement, 1 - bounds.min_agreement),
        ("loss of AUC", measured.auc_loss, bounds.max_auc_loss),
    ):
        if value > most + _ROUNDING:
            raise _missed(path, engine, f"a {what} of {value:.4g}", f"at most {most:.4g}")


def _missed(path: Path, engine: str, measured: str, bound: str) -> GateError:
    return GateError(
        f"{path.name} on {engine} has {measured} against the Keras model",
        bound,
        "The file was not kept; use another format, or a model trained longer and from ImageNet weights",
    )
