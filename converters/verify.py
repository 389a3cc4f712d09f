"""The gate: no file leaves unverified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge import formats
from pneumo_edge._util import cores, extras, processor, subprocesses
from pneumo_edge._util.progress import track
from pneumo_edge.converters import chance, proof, reference
from pneumo_edge.converters.reference import Reference
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import ConversionError, GateError
from pneumo_edge.evaluation.bootstrap import Judged, bootstrap_difference
from pneumo_edge.evaluation.metrics import Interval, Scores
from pneumo_edge.evaluation.operating_point import choose_threshold
from pneumo_edge.formats import FORMATS, Format
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.batch import side_by_side
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.spec import COMPONENTS, PROBABILITY, VerificationSpec

#: Numbers of threads that every file is verified with.
_THREADS = (1, 2)
#: The first engine with one thread sees every validation image; the others, some far slower, see this many.
_IMAGES_FURTHER_ON = 100
#: With fewer, an interval of the AUC says nothing.
_IMAGES_FOR_AUC = 500
_ROUNDING = 1e-9
_AT_EXPORT = "Use another format, or a model trained longer and from ImageNet weights"
#: How long the gate may take for a file that is verified again.
_SECONDS = 3600

#: One file, loaded as often as the machine has room for: one engine, version and number of threads.
Copies = Sequence[engines.Engine]
_Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """A file on one engine against the Keras model.

    ``colour_response`` is how the probability changes when red and blue are exchanged in coloured images, as a multiple
    of how it does in Keras, by least squares: 1 as there, -1 where the file exchanges them itself. ``max_auc_loss`` is
    the upper end of a paired 95 % interval, drawn by patient; ``engine_difference`` is the largest difference of
    probability from the first engine with one thread; ``output_difference`` and ``output_correlation`` are those of
    the worst of the other outputs but for the components, which have ``components_correlation``
    (:class:`pneumo_edge.formats.OutputBounds`). What is None was not measured: the order of the channels is
    the file's, whatever runs it.
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


@dataclass(frozen=True)
class Verified:
    """A file that passed: the threshold to ship with it, the record of the gate, and what it said.

    ``answers`` are the reference's images with the file's own probabilities, on its first engine with one thread;
    ``strayed`` are the names of other outputs that missed their bounds, which costs a quantized file these alone.
    """

    threshold: float
    verification: VerificationSpec
    answers: Reference
    strayed: frozenset[str] = frozenset()


def verify(
    path: Path,
    row: Format,
    reference: Reference,
    positive: int,
    described: str,
    threshold: float | None = None,
    remedy: str = _AT_EXPORT,
) -> Verified:
    """Run a file on every installed engine that its format promises, and hold it to its bounds.

    Args:
        path: A model file; it needs no ModelSpec yet.
        row: Its format.
        reference: From the Keras model.
        positive: Index of the positive class in the file's output.
        described: What the images are, for the record.
        threshold: The file's decision threshold. Without it that of the Keras model is kept, or, for a quantized
            format, one is chosen by the same rule on the file's own probabilities.
        remedy: What to do where it misses a bound.

    Raises:
        GateError: A bound was missed, or an engine gave something else than probabilities.
        ModelFileError: An engine refused the file.
        MissingExtraError: None of the engines is installed.
    """
    installed = _installed_engines(row)
    gate = _Gate(path, row, reference, positive, threshold, remedy)
    measured: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}
    for info in installed:
        for threads in _THREADS:
            copies = _load(path, info, threads)
            versions[info.name] = copies[0].version
            result = asdict(gate.hold(copies))
            measured[describe(copies[0])] = {name: value for name, value in result.items() if value is not None}
    bounds = asdict(row.bounds) | (asdict(row.output_bounds) if reference.outputs else {})
    return Verified(
        gate.threshold,
        VerificationSpec(
            versions, len(reference.labels), described, bounds, measured, processor.kind(), row.by_processor
        ),
        gate.answers,
        frozenset(gate.strayed),
    )


def verify_again(model: Path, data: Path | None, cache: Path) -> Verified:
    """Verify a file that was exported before, on this machine's engines, with no TensorFlow.

    Args:
        model: A model file with its proof and its reference set beside it; what the reference lacks, colour images
            or outputs beside the probabilities, is not checked, and the record says so.
        data: The data that it was trained on, for the whole validation split; without it the images that travel
            in the reference set are used.
        cache: Folder with decoded data sets.

    Raises:
        ConversionError: Proof or reference set is missing or broken, or belongs to another file.
        GateError: A bound was missed.
        ModelFileError: The file cannot be read, or an engine refuses it.
        MissingExtraError: No engine that runs the file is installed.
        DataError: The data cannot be opened.
    """
    # As on a device, so that a spec at odds with its file is refused in the same words.
    spec = Classifier(model).spec
    row = formats.find(model.suffix, spec.format)
    if row is None:
        raise ConversionError(
            f"{model} has the format {spec.format!r}",
            "one of " + ", ".join(FORMATS),
            "Verify it with the version of pneumo-edge that made it",
        )
    record = proof.load(model)
    proof.check(model, record)
    dataset = prepare(open_source(data), cache, spec.input.height, spec.input.width) if data else None
    held_against = reference.load(model.with_name(reference.file_name(spec.backbone)), dataset)
    count = len(held_against.labels)
    described = f"the validation split, {count} images" if data else f"{count} images of the validation split"
    unchecked = [output.name for output in spec.outputs if output.name not in held_against.outputs]
    if not len(held_against.red):
        unchecked.append("order of the colour channels")
    if unchecked:
        described += f" (not checked: {', '.join(unchecked)})"
    return verify(
        model,
        row,
        held_against,
        spec.positive_index,
        described,
        spec.decision.threshold,
        f"Do not use it here; it passed with {_passed_with(record.verification)}",
    )


def _passed_with(verification: VerificationSpec) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in verification.engines.items())
    return f"{versions} on {verification.processor}" if verification.processor else versions


def verify_apart(model: Path, data: Path | None, cache: Path) -> VerificationSpec:
    """Do as :func:`verify_again` in a process of its own, because a file that is verified is not trusted yet.

    Raises:
        PneumoEdgeError: As :func:`verify_again`.
        ModelFileError: An engine crashed on the file, or the gate took too long.
    """
    question = _Question(str(model), str(data) if data else None, str(cache))
    return subprocesses.call_untrusted(_verify, question, f"an engine on {model}", _SECONDS)


@dataclass(frozen=True)
class _Question:
    """The arguments of :func:`verify_again`."""

    model: str
    data: str | None
    cache: str


def _verify(question: _Question) -> VerificationSpec:
    data = Path(question.data) if question.data else None
    return verify_again(Path(question.model), data, Path(question.cache)).verification


def _installed_engines(row: Format) -> list[engines.EngineInfo]:
    rows = [engines.ENGINES[name] for name in row.engines]
    installed = [engine for engine in rows if extras.is_installed(engine.library)]
    if not installed:
        raise engines.none_installed(f"no engine that can verify {row.id} is installed", rows)
    return installed


def compare_calibrations(path: Path, other: Path, row: Format, verified: Verified, positive: int) -> dict[str, float]:
    """Hold a calibrated file against one whose ranges come from other images; they should hardly differ.

    Args:
        path: The model file.
        other: The same network, calibrated on other images; it sees as many images as a further engine does.
        row: Their format, whose bounds for the mean difference and the agreement both must keep to.
        verified: What the gate found of the first file.
        positive: Index of the positive class in the files' output.

    Returns:
        ``images``, ``agreement`` and ``mean_difference``.

    Raises:
        GateError: A bound was missed: the representative dataset is too small for this network.
        ModelFileError: The engine refused a file.
    """
    answers, threshold = verified.answers.subset(_IMAGES_FURTHER_ON), verified.threshold
    copies = _load(other, _installed_engines(row)[0], 1)
    first, second = answers.scores, _Gate(other, row, answers, positive, threshold).scores(copies, answers.pixels)
    differences = np.abs(first - second)
    difference, changed = float(differences.mean()), int(np.sum((first >= threshold) != (second >= threshold)))
    most_changed = chance.most_changed(len(first), answers.of, 1 - row.bounds.min_agreement)
    most_mean = chance.most_mean(differences, answers.of, row.bounds.mean_difference)
    agreement = 1 - changed / len(first)
    if difference > most_mean + _ROUNDING or changed > most_changed:
        raise GateError(
            f"{path.name} and the same network calibrated on other training images agree on {agreement:.1%} of "
            f"{len(first)} decisions, with a mean difference of probability of {difference:.3g}",
            f"at most {most_changed} changed ones and a mean difference of at most {most_mean:.3g}",
            "Calibrate on more images, or use a format whose activations stay in float",
        )
    return {"images": float(len(first)), "agreement": agreement, "mean_difference": difference}


def _load(path: Path, info: engines.EngineInfo, threads: int) -> Copies:
    # Some formats have no fast kernels, and those that engines fall back to use one core.
    return [engines.load(path, info, threads) for _ in range(max(1, cores.available() // threads))]


def describe(engine: engines.Engine) -> str:
    """Name of an engine with its number of threads, as the record of the gate has it."""
    return engine.name if engine.threads == 1 else f"{engine.name}, {engine.threads} threads"


class _Gate:
    """Holds one file to its bounds on one engine after the other; the others must agree with the first."""

    def __init__(
        self,
        path: Path,
        row: Format,
        reference: Reference,
        positive: int,
        threshold: float | None,
        remedy: str = _AT_EXPORT,
    ) -> None:
        self._path, self._row, self._reference, self._positive = path, row, reference, positive
        self._remedy, self._further = remedy, reference.with_travelling(_IMAGES_FURTHER_ON)
        self._threshold = threshold if threshold is not None or row.quantized else reference.threshold
        self._first: Reference | None = None
        self.strayed: set[str] = set()

    @property
    def threshold(self) -> float:
        """The file's decision threshold, known once the file was held on an engine."""
        if self._threshold is None:
            raise RuntimeError("no engine has run the file yet")
        return self._threshold

    @property
    def answers(self) -> Reference:
        """The reference's images with what the file says of them, known once the file was held on an engine."""
        if self._first is None:
            raise RuntimeError("no engine has run the file yet")
        return self._first

    def hold(self, copies: Copies) -> Measured:
        """Measure the file on an engine.

        Raises:
            GateError: A bound was missed.
        """
        reference = self._reference if self._first is None else self._reference.at(self._further)
        scores, outputs = self._say(copies, reference.pixels)
        if self._threshold is None:
            self._threshold = choose_threshold(reference.rule, reference.labels, scores)
        difference = np.abs(scores - reference.scores)
        other = (scores >= self._threshold) != (reference.scores >= reference.threshold)
        changed = other & (np.abs(reference.scores - reference.threshold) > self._row.bounds.undecided)
        measured = Measured(
            max_difference=float(difference.max()),
            mean_difference=float(difference.mean()),
            agreement=float(1 - changed.mean()),
            images=len(scores),
        )
        if self._first is None:
            self._first = replace(reference, scores=scores, outputs=outputs)
            if len(reference.red):
                measured = replace(measured, colour_response=self._colour_response(copies))
            if len(scores) >= _IMAGES_FOR_AUC:
                loss = self._auc_loss(scores)
                measured = replace(measured, auc_loss=loss.value, max_auc_loss=loss.high)
        else:
            first = self._first.scores[self._further]
            measured = replace(measured, engine_difference=float(np.abs(scores - first).max()))
        pairs = {name: (_flat(reference.outputs[name]), _flat(values)) for name, values in outputs.items()}
        if COMPONENTS in pairs:
            expected, found = pairs.pop(COMPONENTS)
            # Over the images, because the file has a mean and a scale of its own for each.
            correlation = _correlation(expected.T, found.T)
            measured = replace(measured, components_correlation=correlation)
            if correlation < self._row.output_bounds.min_components_correlation:
                self.strayed.add(COMPONENTS)
        if pairs:
            measured = replace(
                measured,
                output_difference=max(_relative_difference(*pair) for pair in pairs.values()),
                output_correlation=min(_correlation(*pair) for pair in pairs.values()),
            )
            self.strayed |= {name for name, pair in pairs.items() if not self._is_faithful(*pair)}
        self._check_averages(difference, changed, copies[0])
        self._check(measured, copies[0])
        if len(self._reference.labels) == self._reference.of:
            # As a device will, that has no others; so that what passes here passes there.
            travelling = np.isin(reference.sha256, self._reference.sha256[self._reference.travelling])
            self._check_averages(difference[travelling], changed[travelling], copies[0])
        return measured

    def scores(self, copies: Copies, images: npt.NDArray[np.uint8]) -> Scores:
        """Probabilities of the positive class for uint8 images of shape (images, height, width, 3)."""
        return self._say(copies, images)[0]

    def _is_faithful(self, expected: _Values, found: _Values) -> bool:
        bounds = self._row.output_bounds
        return (
            _relative_difference(expected, found) <= bounds.max_output_difference
            and _correlation(expected, found) >= bounds.min_output_correlation
        )

    def _say(self, copies: Copies, images: npt.NDArray[np.uint8]) -> tuple[Scores, dict[str, _Values]]:
        """Probabilities of the positive class, and what the reference has of the other outputs, in their shapes."""
        what = f"Verifying {self._path.name} on {describe(copies[0])}"
        tensors = (pixels[np.newaxis].astype(self._row.input_dtype) for pixels in images)
        with engines.refusal(copies[0].name, self._path, "run"):
            answers = list(track(side_by_side([engine.run_all for engine in copies], tensors), what, len(images)))
        scores = np.array([answer[PROBABILITY][self._positive] for answer in answers], dtype=np.float64)
        if not np.isfinite(scores).all():
            raise self._missed(copies[0], "probabilities that are not finite", "finite ones")
        shapes = {name: array.shape[1:] for name, array in self._reference.outputs.items()}
        outputs = {
            name: np.array([answer[name] for answer in answers]).reshape(-1, *shape)
            for name, shape in shapes.items()
            if name in copies[0].other_shapes
        }
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise self._missed(copies[0], "values of another output that are not finite", "finite ones")
        return scores, outputs

    def _colour_response(self, copies: Copies) -> float:
        reference = self._reference
        # Against each other, because quantization, with ranges of grey images, shifts all coloured ones alike.
        changes = self.scores(copies, reference.red) - self.scores(copies, reference.red[..., ::-1])
        expected = reference.red_scores - reference.blue_scores
        scale = float(expected @ expected)
        # A network that takes no notice of colour tells nothing, and loses nothing.
        return float(changes @ expected) / scale if scale else 1.0

    def _auc_loss(self, scores: Scores) -> Interval:
        reference = self._reference
        return bootstrap_difference(
            reference.labels,
            Judged(reference.scores, reference.threshold),
            Judged(scores, self.threshold),
            reference.patients.astype(str).tolist(),
            statistics=("auc",),
            open_ends=False,
        )["auc"]

    def _check(self, measured: Measured, engine: engines.Engine) -> None:
        bounds = self._row.bounds
        for what, value, most in (
            ("largest difference of probability", measured.max_difference, bounds.max_difference),
            ("loss of AUC that cannot be ruled out", measured.max_auc_loss, bounds.max_auc_loss),
            ("largest difference from the first engine", measured.engine_difference, bounds.max_difference),
        ):
            if value is not None and value > most + _ROUNDING:
                raise self._missed(engine, f"a {what} of {value:.4g}", f"at most {most:.4g}")
        if measured.colour_response is not None and measured.colour_response < 0:
            raise self._missed(engine, "red and blue exchanged", "channels in the order red, green, blue")
        if self.strayed and not self._row.quantized:
            least = self._row.output_bounds
            found = (
                f"a difference of {measured.output_difference:.4g} and a correlation of "
                f"{measured.output_correlation:.4g} of {' and '.join(sorted(self.strayed))}",
                f"at most {least.max_output_difference:g} and at least {least.min_output_correlation:g}",
            )
            if self.strayed == {COMPONENTS}:
                found = (
                    f"a correlation of {measured.components_correlation:.4g} of {COMPONENTS}",
                    f"at least {least.min_components_correlation:g}",
                )
            raise self._missed(engine, *found)
        missing = self._reference.outputs.keys() - engine.other_shapes.keys()
        if missing:
            raise self._missed(engine, f"no output {' or '.join(sorted(missing))}", "it")

    def _check_averages(
        self, differences: npt.NDArray[np.float64], changed: npt.NDArray[np.bool_], engine: engines.Engine
    ) -> None:
        """Hold a sample of the validation split, or all of it, to what the whole must keep."""
        bounds, of = self._row.bounds, self._reference.of
        mean, most = float(differences.mean()), chance.most_mean(differences, of, bounds.mean_difference)
        if mean > most + _ROUNDING:
            raise self._missed(engine, f"a mean difference of probability of {mean:.4g}", f"at most {most:.4g}")
        count, allowed = int(changed.sum()), chance.most_changed(len(changed), of, 1 - bounds.min_agreement)
        if count > allowed:
            found = f"{count} changed decisions of {len(changed)} images"
            raise self._missed(engine, found, f"at most {allowed}, where {bounds.min_agreement:.0%} are to be the same")

    def _missed(self, engine: engines.Engine, measured: str, bound: str) -> GateError:
        return GateError(
            f"{self._path.name} on {describe(engine)} has {measured} against the Keras model", bound, self._remedy
        )


def _flat(array: _Values) -> _Values:
    return array.reshape(len(array), -1)


def _relative_difference(expected: _Values, found: _Values) -> float:
    """Root mean square of the difference, as a multiple of the standard deviation of what is expected."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / (expected.std() or 1.0))


def _correlation(expected: _Values, found: _Values) -> float:
    """Pearson's correlation along the last axis, the median over the first; 0 where all values found are alike.

    Where all that are expected are alike there is nothing to correlate with, and a row of them does not count.
    """
    first, second = (array - array.mean(axis=-1, keepdims=True) for array in (expected, found))
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    products = (first * second).sum(axis=-1)
    correlations = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    varied = np.ptp(expected, axis=-1) > 0
    return float(np.median(correlations[varied])) if varied.any() else 1.0
