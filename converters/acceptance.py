"""The acceptance checks: compares a model file on an engine with the Keras model, and checks the format's bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import cores
from pneumo_edge._util.progress import Advance, bar
from pneumo_edge.converters import chance
from pneumo_edge.converters.reference import Reference
from pneumo_edge.errors import GateError
from pneumo_edge.evaluation.bootstrap import Predictions, bootstrap_difference
from pneumo_edge.evaluation.metrics import Interval, Scores, decide, distances, margins, mean_distances
from pneumo_edge.formats import Format
from pneumo_edge.imaging import images
from pneumo_edge.runtime import engines, pixels
from pneumo_edge.runtime.batch import side_by_side
from pneumo_edge.runtime.classifier import as_probabilities
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.spec import COMPONENTS, PROBABILITY, ModelSpec

#: What to do about a file that fails at export.
AT_EXPORT = "Use another format, or a model trained longer and from ImageNet weights"
#: Tolerance for rounding where a mean or a difference is compared with a bound.
ROUNDING = 1e-9
#: Minimum number of images for an interval of the AUC.
_IMAGES_FOR_AUC = 500

_Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A file to check.

    Attributes:
        path: The model file; it needs no ModelSpec yet.
        row: Its format, with the bounds.
        positive: Index of the positive class in the file's output; None where there is none.
        remedy: What to do if it fails.
        adopted: The ModelSpec of a file of another tool, which says how its pixels are scaled and what its scores are.
            None for an exported file, which takes pixels and gives probabilities.
    """

    path: Path
    row: Format
    positive: int | None
    remedy: str = AT_EXPORT
    adopted: ModelSpec | None = None

    @property
    def expected(self) -> str:
        """What its answers are compared with, in words."""
        return "its answers when it was adopted" if self.adopted else "the Keras model"

    def tensor(self, rgb: images.Pixels) -> engines.Tensor:
        """What the file takes for an image, uint8 of shape (height, width, 3)."""
        if self.adopted:
            return pixels.convert(self.adopted.input, rgb)
        return rgb[np.newaxis].astype(self.row.input_dtype)

    def probabilities(self, output: engines.Probabilities) -> npt.NDArray[Any]:
        """The probability of each class, of an output of the file."""
        return as_probabilities(output, self.adopted.scores) if self.adopted else output

    def failure(self, engine: engines.Engine, measured: str, bound: str) -> GateError:
        """The error with the measured and the expected value on an engine."""
        return GateError(
            f"{self.path.name} on {describe(engine)} has {measured} against {self.expected}", bound, self.remedy
        )


@dataclass(frozen=True)
class Loaded:
    """A candidate on one engine and number of threads, loaded once for each free core."""

    candidate: Candidate
    copies: Sequence[engines.Engine]

    @property
    def engine(self) -> engines.Engine:
        """The first copy."""
        return self.copies[0]


@dataclass(frozen=True)
class Answers:
    """The outputs of a file for images: their scores, float64 like those of the reference; and other outputs.

    ``outputs`` has the outputs that the reference also has, by name: float32 of shape (images, ...).
    """

    scores: Scores
    outputs: Mapping[str, _Values]


@dataclass(frozen=True)
class Measured:
    """A file on one engine compared with the Keras model; None for what was not measured.

    ``colour_response`` is the change of the probability when red and blue are exchanged in coloured images, as a
    multiple of the change in Keras (least squares): 1 if they agree, -1 if the file exchanges the channels itself. It
    is a property of the file, so it is measured on the first engine only. ``max_auc_loss`` is the upper end of a paired
    95 % interval, by patient. Without a positive class, the AUC is the mean over the classes of each against the rest,
    ``least_auc_loss`` is that of the lowest of them, and differences of probability are those of every class.
    ``engine_difference`` is the largest difference of probability from the first engine with one thread.
    ``output_difference`` and ``output_correlation`` are those of the worst other output, except the components, which
    have ``components_correlation`` (:class:`pneumo_edge.formats.OutputBounds`).
    """

    max_difference: float
    mean_difference: float
    agreement: float
    images: int
    colour_response: float | None = None
    auc_loss: float | None = None
    max_auc_loss: float | None = None
    engine_difference: float | None = None
    output_difference: float | None = None
    output_correlation: float | None = None
    components_correlation: float | None = None
    least_auc_loss: float | None = None
    max_least_auc_loss: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A file's answers compared with those of the Keras model.

    Attributes:
        measured: Numbers for the record.
        differences: Absolute differences of the positive class's probability, or their mean over the classes, shape
            (images,).
        changed: Images with another decision, bool of shape (images,); images near the Keras model's threshold
            (``Bounds.undecided``) are not counted.
        failed_outputs: Names of the outputs other than the probabilities that failed their checks.
    """

    measured: Measured
    differences: npt.NDArray[np.float64]
    changed: npt.NDArray[np.bool_]
    failed_outputs: frozenset[str]


def load(candidate: Candidate, info: engines.EngineInfo, threads: int) -> Loaded:
    """Load a candidate into an engine.

    Raises:
        ModelFileError: The engine refuses the file.
        MissingExtraError: The engine's library does not import.
    """
    # Formats without fast kernels fall back to kernels that use one core.
    copies = max(1, cores.available() // threads)
    given = Given({"": pixels.shape(candidate.adopted.input)}) if candidate.adopted else None
    return Loaded(candidate, [engines.load(candidate.path, info, threads, given) for _ in range(copies)])


def describe(engine: engines.Engine) -> str:
    """Name of an engine with its number of threads, as in the record of the checks."""
    return engine.name if engine.threads == 1 else f"{engine.name}, {engine.threads} threads"


def ask(loaded: Loaded, reference: Reference) -> Answers:
    """Run a file on the images of a reference.

    Raises:
        GateError: A value is not finite.
        ModelFileError: The engine cannot run the file.
    """
    what = f"Verifying {loaded.candidate.path.name} on {describe(loaded.engine)}"
    with bar(what, len(reference.pixels)) as advance:
        return _ask(loaded, reference, reference.pixels, advance)


def compare(
    loaded: Loaded,
    reference: Reference,
    answers: Answers,
    threshold: float | None,
    first: Scores | None = None,
) -> Comparison:
    """Compare a file's answers with those of the Keras model.

    Args:
        loaded: The file on an engine.
        reference: The images, with the answers of the Keras model.
        answers: The answers of the file.
        threshold: The file's decision threshold; None without a positive class.
        first: Scores of these images on the first engine. None on the first engine, where the properties that do not
            depend on the engine are measured, too.

    Raises:
        GateError: A value of an image in colour is not finite.
        ModelFileError: The engine cannot run the file.
    """
    row, scores = loaded.candidate.row, answers.scores
    differences = mean_distances(scores, reference.scores)
    other = decide(scores, threshold) != decide(reference.scores, reference.threshold)
    changed = other & (margins(reference.scores, reference.threshold) > row.bounds.undecided)
    is_first = first is None
    losses = _auc_losses(reference, scores, threshold) if is_first and len(scores) >= _IMAGES_FOR_AUC else {}
    loss, least_loss = losses.get("auc"), losses.get("least_auc")
    pairs = {name: (_flat(reference.outputs[name]), _flat(values)) for name, values in answers.outputs.items()}
    components = pairs.pop(COMPONENTS, None)
    # Along the images, because each component is standardized.
    components_correlation = _correlation(components[0].T, components[1].T) if components else None
    measured = Measured(
        max_difference=float(distances(scores, reference.scores).max()),
        mean_difference=float(differences.mean()),
        agreement=float(1 - changed.mean()),
        images=len(scores),
        colour_response=_colour_response(loaded, reference) if is_first and len(reference.red) else None,
        auc_loss=loss.value if loss else None,
        max_auc_loss=loss.high if loss else None,
        engine_difference=None if first is None else float(distances(scores, first).max()),
        output_difference=max((_relative_difference(*pair) for pair in pairs.values()), default=None),
        output_correlation=min((_correlation(*pair) for pair in pairs.values()), default=None),
        components_correlation=components_correlation,
        least_auc_loss=least_loss.value if least_loss else None,
        max_least_auc_loss=least_loss.high if least_loss else None,
    )
    failed_outputs = {name for name, pair in pairs.items() if not _is_faithful(row, *pair)}
    if components_correlation is not None and components_correlation < row.output_bounds.min_components_correlation:
        failed_outputs.add(COMPONENTS)
    return Comparison(measured, differences, changed, frozenset(failed_outputs))


def check(loaded: Loaded, comparison: Comparison, whole: Reference, compared: Reference) -> None:
    """Check a file against the bounds of its format.

    Args:
        loaded: The file on an engine.
        comparison: Its answers compared with those of the Keras model.
        whole: The reference.
        compared: The images of the reference that were compared.

    Raises:
        GateError: A check failed.
    """
    differences, changed = comparison.differences, comparison.changed
    _check_averages(loaded, differences, changed, whole.of)
    _check_bounds(loaded, comparison.measured)
    _check_outputs(loaded, comparison, whole)
    if len(whole.labels) == whole.of:
        # A device has only these images; a file that passes here then passes there.
        travelling = np.isin(compared.sha256, whole.sha256[whole.travelling])
        _check_averages(loaded, differences[travelling], changed[travelling], whole.of)


def _ask(
    loaded: Loaded, reference: Reference, rgb: npt.NDArray[np.uint8], advance: Advance = lambda steps, note: None
) -> Answers:
    candidate, engine = loaded.candidate, loaded.engine
    tensors = map(candidate.tensor, rgb)
    answers = []
    with engines.refusal(engine.name, candidate.path, "run"):
        for answer in side_by_side([each.run_all for each in loaded.copies], tensors):
            answers.append(answer)
            advance(1, "")
    chosen = slice(None) if candidate.positive is None else candidate.positive
    scores = np.array([candidate.probabilities(answer[PROBABILITY])[chosen] for answer in answers], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise candidate.failure(engine, "probabilities that are not finite", "finite ones")
    shapes = {name: array.shape[1:] for name, array in reference.outputs.items()}
    outputs = {
        name: np.array([answer[name] for answer in answers]).reshape(-1, *shape)
        for name, shape in shapes.items()
        if name in engine.other_shapes
    }
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise candidate.failure(engine, "values of another output that are not finite", "finite ones")
    return Answers(scores, outputs)


def _colour_response(loaded: Loaded, reference: Reference) -> float:
    # Red against blue, because quantization with ranges of grey images shifts all coloured images alike.
    red, blue = (_ask(loaded, reference, rgb).scores for rgb in (reference.red, reference.red[..., ::-1]))
    expected = (reference.red_scores - reference.blue_scores).ravel()
    scale = float(expected @ expected)
    # A network that ignores colour cannot be checked, and needs no check.
    return float((red - blue).ravel() @ expected) / scale if scale else 1.0


def _auc_losses(reference: Reference, scores: Scores, threshold: float | None) -> dict[str, Interval]:
    return bootstrap_difference(
        reference.labels,
        Predictions(reference.scores, reference.threshold),
        Predictions(scores, threshold),
        reference.patients.astype(str).tolist(),
        statistics=("auc",) if threshold is not None else ("auc", "least_auc"),
        open_ends=False,
    )


def _check_averages(
    loaded: Loaded, differences: npt.NDArray[np.float64], changed: npt.NDArray[np.bool_], of: int
) -> None:
    """Check a sample of the validation split of ``of`` images, or all of it, against the bounds for the whole split."""
    bounds, fail = loaded.candidate.row.bounds, loaded.candidate.failure
    mean, most = float(differences.mean()), chance.most_mean(differences, of, bounds.mean_difference)
    if mean > most + ROUNDING:
        raise fail(loaded.engine, f"a mean difference of probability of {mean:.4g}", f"at most {most:.4g}")
    count, allowed = int(changed.sum()), chance.most_changed(len(changed), of, 1 - bounds.min_agreement)
    if count > allowed:
        found = f"{count} changed decisions of {len(changed)} images"
        raise fail(loaded.engine, found, f"at most {allowed}, where {bounds.min_agreement:.0%} are to be the same")


def _check_bounds(loaded: Loaded, measured: Measured) -> None:
    bounds, fail = loaded.candidate.row.bounds, loaded.candidate.failure
    for what, value, most in (
        ("largest difference of probability", measured.max_difference, bounds.max_difference),
        ("loss of AUC that cannot be ruled out", measured.max_auc_loss, bounds.max_auc_loss),
        ("loss of the least AUC of a class that cannot be ruled out", measured.max_least_auc_loss, bounds.max_auc_loss),
        ("largest difference from the first engine", measured.engine_difference, bounds.max_difference),
    ):
        if value is not None and value > most + ROUNDING:
            raise fail(loaded.engine, f"a {what} of {value:.4g}", f"at most {most:.4g}")
    if measured.colour_response is not None and measured.colour_response < 0:
        raise fail(loaded.engine, "red and blue exchanged", "channels in the order red, green, blue")


def _check_outputs(loaded: Loaded, comparison: Comparison, whole: Reference) -> None:
    """Outputs that fail are not used in a quantized file; in any other file they must pass. None may be missing."""
    row, fail, measured = loaded.candidate.row, loaded.candidate.failure, comparison.measured
    least = row.output_bounds
    if comparison.failed_outputs == {COMPONENTS} and not row.quantized:
        found = f"a correlation of {measured.components_correlation:.4g} of {COMPONENTS}"
        raise fail(loaded.engine, found, f"at least {least.min_components_correlation:g}")
    if comparison.failed_outputs and not row.quantized:
        found = (
            f"a difference of {measured.output_difference:.4g} and a correlation of "
            f"{measured.output_correlation:.4g} of {' and '.join(sorted(comparison.failed_outputs))}"
        )
        raise fail(
            loaded.engine,
            found,
            f"at most {least.max_output_difference:g} and at least {least.min_output_correlation:g}",
        )
    missing = whole.outputs.keys() - loaded.engine.other_shapes.keys()
    if missing:
        raise fail(loaded.engine, f"no output {' or '.join(sorted(missing))}", "it")


def _is_faithful(row: Format, expected: _Values, found: _Values) -> bool:
    bounds = row.output_bounds
    return (
        _relative_difference(expected, found) <= bounds.max_output_difference
        and _correlation(expected, found) >= bounds.min_output_correlation
    )


def _flat(array: _Values) -> _Values:
    return array.reshape(len(array), -1)


def _relative_difference(expected: _Values, found: _Values) -> float:
    """Root mean square of the difference, as a multiple of the standard deviation of the expected values."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / (expected.std() or 1.0))


def _correlation(expected: _Values, found: _Values) -> float:
    """Pearson's correlation along the last axis, as a median over the first; 0 where all found values are equal.

    Rows whose expected values are all equal are skipped.
    """
    first, second = (array - array.mean(axis=-1, keepdims=True) for array in (expected, found))
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    products = (first * second).sum(axis=-1)
    correlations = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    varied = np.ptp(expected, axis=-1) > 0
    return float(np.median(correlations[varied])) if varied.any() else 1.0
