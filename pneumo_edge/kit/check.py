"""Grades the results of a port against the test vectors of a kit, and names the first step at which it departs.

Each step is computed again from the port's own result of the step before, so that a mistake shows where it is made and
not in what follows. Where a port does not report a step, it is computed from the last one that it does report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files, records
from pneumo_edge.errors import ModelFileError, ResultsError
from pneumo_edge.imaging import images
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.kit import mistakes, vectors
from pneumo_edge.kit.documents import REPORTED, STEPS, Answer, KitVectors, PortPicture, PortResults, PortVector, Vector
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.spec import PROBABILITY

Array = npt.NDArray[Any]
#: A mistake is named if its result is that much nearer to the port's than the right one is.
_NEARER = 0.2
_JPEG = ".jpeg"
#: So that an output of zeros is no divisor.
_TINY = 1e-18


@dataclass(frozen=True)
class Departure:
    """A vector at which a step departs: by how much, in words, and which mistake would explain it."""

    vector: str
    found: str
    mistake: str | None = None

    def __str__(self) -> str:
        return f"{self.vector}: {self.found}" + (f"; it looks as if {self.mistake}" if self.mistake else "")


@dataclass
class StepGrade:
    """The grade of a step: how many vectors report it, the largest difference, and where it departs.

    ``refusals`` are images of which was graded whether they are refused.
    """

    step: str
    tolerance: str
    reported: int = 0
    refusals: int = 0
    largest: float = 0.0
    departures: list[Departure] = field(default_factory=list)


@dataclass(frozen=True)
class Grade:
    """The grade of a port: that of each step, in their order."""

    port: str
    steps: tuple[StepGrade, ...]

    @property
    def departs_at(self) -> StepGrade | None:
        """The first step at which it departs; None if it passes."""
        return next((step for step in self.steps if step.departures), None)

    @property
    def unreported(self) -> tuple[str, ...]:
        """The steps that it does not report at all."""
        return tuple(step.step for step in self.steps if not step.reported)


def read(path: Path) -> tuple[Path, KitVectors]:
    """Read the vectors of a kit.

    Args:
        path: The folder of a kit, its folder ``vectors``, or the file ``vectors.json`` in it.

    Returns:
        The folder that the paths of the vectors begin in, and the vectors.

    Raises:
        ResultsError: There are none, or they are damaged.
    """
    places = (path, path / vectors.VECTORS.name, path / vectors.VECTORS)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ResultsError(
            f"there are no test vectors at {path}", "the folder of a kit", "Make one with: pneumo-edge kit make MODEL"
        )
    return file.parent, _load(KitVectors, file, "test vectors", "Make the kit again")


def check(path: Path, results: Path) -> Grade:
    """Grade the results of a port.

    Args:
        path: As for :func:`read`.
        results: The JSON file that the port wrote (:class:`~pneumo_edge.kit.documents.PortResults`).

    Raises:
        ResultsError: The vectors or the results cannot be read, or are not of the same kit.
        ModelFileError: The model of the kit is not beside its vectors, or has changed.
        MissingExtraError: No engine for it is installed.
    """
    folder, kit = read(path)
    port = _load(PortResults, results, "results of a port", "See results.schema.json in the kit")
    # Of numbers that no model gives.
    with np.errstate(all="ignore"):
        return _Check(folder, kit, _classifier(folder, kit)).grade(port, results)


def _load(kind: type[Any], path: Path, what: str, remedy: str) -> Any:
    try:
        return records.loads(kind, path.read_bytes())
    except FileNotFoundError as error:
        raise ResultsError(f"there is no file {path}", f"the {what}", "Check the path") from error
    except (OSError, records.RecordError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResultsError(f"{path} cannot be read ({reason})", f"the {what}", remedy) from error


def _classifier(folder: Path, kit: KitVectors) -> Classifier:
    model = folder.parent / kit.model
    if not model.is_file() or files.sha256(model) != kit.model_sha256:
        state = "is not the file that the test vectors are of" if model.is_file() else "is not there"
        raise ModelFileError(f"{model} {state}", "the whole folder of the kit", "Make the kit again")
    return Classifier(model)


class _Check:
    def __init__(self, folder: Path, kit: KitVectors, classifier: Classifier) -> None:
        self._folder, self._kit, self._classifier = folder, kit, classifier
        self._size = classifier.spec.input
        self._outputs = (PROBABILITY, *classifier.engine.other_shapes)
        self._steps = {step: StepGrade(step, _tolerance(step, kit)) for step in STEPS}

    def grade(self, port: PortResults, path: Path) -> Grade:
        reported = {each.file: each for each in port.vectors}
        if unknown := reported.keys() - {vector.file for vector in self._kit.vectors}:
            raise ResultsError(
                f"{path} has an entry for {min(unknown)}", "the images of this kit alone", "Run the port on this kit"
            )
        decodes = any(each.decoded or each.error for each in port.vectors)
        _check_whole(port, path)
        for vector in self._kit.vectors:
            found = reported.get(vector.file)
            if found is None and (decodes or not vector.refused):
                raise ResultsError(
                    f"{path} has no entry for {vector.file}",
                    f"one for each of {len(self._kit.vectors)} vectors",
                    "Run the port on all of them",
                )
            # One that starts from decoded pixels refuses nothing.
            if found is not None and (decodes or not vector.refused):
                self._grade_vector(vector, found, path)
        self._grade_decisions(port, path)
        if not any(step.reported or step.refusals for step in self._steps.values()):
            raise ResultsError(f"{path} reports no step", f"some of {', '.join(STEPS)}", "See the README of the kit")
        return Grade(port.port, tuple(self._steps.values()))

    def _grade_vector(self, vector: Vector, found: PortVector, path: Path) -> None:
        if vector.refused or found.error:
            self._grade_refusal(vector, found)
            return
        name, own = vector.file, _Own(found, path)
        tolerances = self._kit.tolerances
        content = images.read(self._folder / name)
        upright = vectors.decoded(content)
        state = own.picture("decoded", found.decoded)
        if state is not None:
            is_lossy = name.endswith(_JPEG)
            self._compare(
                "decode", name, _as_channels(state, upright), upright,
                tolerances.decoded_lossy if is_lossy else tolerances.decoded_lossless,
                lambda: mistakes.of_decoding(content, upright),
                mean=tolerances.decoded_lossy_mean if is_lossy else math.inf,
            )  # fmt: skip
        before = upright if state is None else state
        grey = vectors.grey_of(before)
        if (state := own.picture("grey", found.grey)) is not None:
            self._compare("grey", name, state, grey, tolerances.grey, lambda: mistakes.of_grey(before))
            grey = state
        if grey.ndim != 2:
            return
        resized = vectors.resized_of(grey, self._size)
        if (state := own.picture("resized", found.resized)) is not None:
            self._compare(
                "resize", name, state, resized, tolerances.resized, lambda: mistakes.of_resizing(grey, self._size)
            )
            resized = state
        if resized.shape != (self._size.height, self._size.width):
            return
        tensor = vectors.as_tensor(self._size, resized)
        if (given := own.tensor(found, tensor)) is not None:
            self._compare(
                "tensor", name, given, tensor, tolerances.tensor,
                lambda: mistakes.of_tensor(resized, self._size, tensor), of="",
            )  # fmt: skip
            tensor = given
        if found.outputs is not None:
            self._grade_outputs(name, found.outputs, tensor)
        if found.answer is not None and found.outputs is not None:
            self._grade_answer(name, found.outputs, found.answer)

    def _grade_refusal(self, vector: Vector, found: PortVector) -> None:
        grade = self._steps["decode"]
        grade.refusals += 1
        if vector.refused and not found.error:
            grade.departures.append(Departure(vector.file, f"it must be refused: {vector.refused}"))
        elif found.error and not vector.refused:
            grade.departures.append(Departure(vector.file, f"it must be classified, and was refused: {found.error}"))

    def _compare(
        self,
        step: str,
        name: str,
        given: Array,
        right: Array,
        tolerance: float,
        explain: Callable[[], Iterator[tuple[str, Array]]],
        *,
        mean: float = math.inf,
        of: str = " of 255",
    ) -> None:
        grade = self._steps[step]
        grade.reported += 1
        if given.shape != right.shape:
            found = f"{_sizes(given)}, not {_sizes(right)}"
            grade.departures.append(Departure(name, found, _mistake(given, math.inf, explain())))
            return
        difference = np.abs(given.astype(np.float64) - right.astype(np.float64))
        largest, average = float(difference.max()), float(difference.mean())
        grade.largest = max(grade.largest, largest)
        # Written so that NaN fails it.
        if largest <= tolerance and average <= mean:
            return
        allowed = f"{tolerance:g}" if average <= mean else f"{tolerance:g}, and {mean:g} on average"
        found = f"a difference of {largest:.4g}{of}, {average:.3g} on average; the tolerance is {allowed}"
        grade.departures.append(Departure(name, found, _mistake(given, average, explain())))

    def _grade_outputs(self, name: str, given: Mapping[str, tuple[float, ...]], tensor: Array) -> None:
        grade, tolerances = self._steps["outputs"], self._kit.tolerances
        grade.reported += 1
        right = vectors.run(self._classifier, np.ascontiguousarray(tensor, self._size.dtype))
        others = self._outputs[1:]
        # Two raw outputs are compared as probabilities.
        probabilities = vectors.answer(self._classifier, right).probabilities
        try:
            own = self._answer(given).probabilities
        except (KeyError, ValueError, IndexError):
            expected = ", ".join(f"{each} with {right[each].size} values" for each in self._outputs)
            grade.departures.append(Departure(name, f"outputs {', '.join(given)}; expected {expected}"))
            return
        largest = max(abs(own[each] - probabilities[each]) for each in probabilities)
        grade.largest = max(grade.largest, largest)
        # Written so that NaN fails it.
        if not largest <= tolerances.probability:
            found = f"a probability differs by {largest:.4g}; the tolerance is {tolerances.probability:g}"
            grade.departures.append(Departure(name, found, mistakes.of_probabilities(probabilities, own)))
        for other in others:
            if other in given:
                self._grade_other(name, other, np.array(given[other]), right[other])

    def _grade_other(self, name: str, output: str, given: Array, right: Array) -> None:
        departures, tolerance = self._steps["outputs"].departures, self._kit.tolerances.other_outputs
        if given.shape != right.shape:
            departures.append(Departure(name, f"{output} has {given.size} values, not {right.size}"))
            return
        share = float(np.sqrt(np.mean((given - right) ** 2) / max(np.mean(right.astype(np.float64) ** 2), _TINY)))
        # Written so that NaN fails it.
        if not share <= tolerance:
            found = f"{output} differs by {share:.3g} of its root mean square; the tolerance is {tolerance:g}"
            departures.append(Departure(name, found))

    def _answer(self, outputs: Mapping[str, tuple[float, ...]]) -> Answer:
        arrays = {name: np.array(values, np.float32) for name, values in outputs.items()}
        if len(arrays[self._outputs[0]]) != self._classifier.spec.score_count:
            raise ValueError("another number of scores")
        return vectors.answer(self._classifier, arrays)

    def _grade_decisions(self, port: PortResults, path: Path) -> None:
        cases = self._kit.decisions
        if not port.decisions:
            return
        if len(port.decisions) != len(cases):
            raise ResultsError(
                f"{path} has {len(port.decisions)} decisions",
                f"one for each of {len(cases)} cases",
                "Run the port on all of them",
            )
        threshold = self._threshold_mistake(port)
        for number, (case, given) in enumerate(zip(cases, port.decisions, strict=True)):
            self._grade_answer(f"case {number} ({case.about})", case.outputs, given, threshold)

    def _threshold_mistake(self, port: PortResults) -> str | None:
        decision = self._classifier.spec.decision
        if decision.threshold is None or decision.positive_class is None:
            return None
        reported = {
            case.answer.probabilities.get(decision.positive_class, 0.0): given.label == decision.positive_class
            for case, given in zip(self._kit.decisions, port.decisions, strict=True)
        }
        return mistakes.of_threshold(decision.threshold, reported)

    def _grade_answer(
        self, name: str, outputs: Mapping[str, tuple[float, ...]], given: Answer, threshold: str | None = None
    ) -> None:
        grade, tolerance = self._steps["decision"], self._kit.tolerances.answer
        grade.reported += 1
        try:
            right = self._answer(outputs)
        except (KeyError, ValueError, IndexError):  # the step before departs
            return
        if given.probabilities.keys() != right.probabilities.keys():
            found = f"classes {', '.join(given.probabilities)}; expected {', '.join(right.probabilities)}"
            grade.departures.append(Departure(name, found))
            return
        differences = {each: abs(given.probabilities[each] - value) for each, value in right.probabilities.items()}
        grade.largest = max(grade.largest, *differences.values())
        for each, difference in differences.items():
            if difference > tolerance:
                own, expected = given.probabilities[each], right.probabilities[each]
                found = f"the probability of {each} is {own:.6g}, not {expected:.6g}"
                mistake = mistakes.of_probabilities(right.probabilities, given.probabilities)
                grade.departures.append(Departure(name, found, mistake))
                return
        if not _same_distance(given.distance, right.distance, tolerance):
            grade.departures.append(Departure(name, f"the distance is {given.distance}, not {right.distance}"))
            return
        for what in ("label", "prediction_set", "uncertain", "out_of_distribution"):
            if getattr(given, what) != getattr(right, what):
                found = f"{what} is {_shown(getattr(given, what))}, not {_shown(getattr(right, what))}"
                grade.departures.append(Departure(name, found, threshold if what == "label" else None))
                return


def _check_whole(port: PortResults, path: Path) -> None:
    """Check that a port has one entry for an image, and reports a step for all images or for none."""
    files_of = [each.file for each in port.vectors]
    if twice := next((name for name in files_of if files_of.count(name) > 1), None):
        raise ResultsError(f"{path} has several entries for {twice}", "one for each image", "Write each result once")
    classified = [each for each in port.vectors if each.error is None and any(map(each.reports, REPORTED))]
    for what in REPORTED:
        number = sum(each.reports(what) for each in classified)
        if 0 < number < len(classified):
            raise ResultsError(
                f"{path} reports {what} for {number} of {len(classified)} images",
                "all of them, or none",
                "Report a step for every image that the port does not refuse",
            )


def _tolerance(step: str, kit: KitVectors) -> str:
    most = kit.tolerances
    return {
        "decode": f"{most.decoded_lossless:g} of 255, for JPEG {most.decoded_lossy:g}",
        "grey": f"{most.grey:g} of 255",
        "resize": f"{most.resized:g} of 255",
        "tensor": f"{most.tensor:.2g}",
        "outputs": f"{most.probability:g}",
        "decision": f"{most.answer:g}",
    }[step]


def _same_distance(given: float | None, right: float | None, tolerance: float) -> bool:
    if given is None or right is None:
        return given is right
    return abs(given - right) <= tolerance * max(right, 1.0)


def _shown(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class _Own:
    """What a port reports of a vector, as arrays."""

    found: PortVector
    path: Path

    def picture(self, step: str, picture: PortPicture | None) -> Pixels | None:
        if picture is None:
            return None
        try:
            return picture.array()
        except ValueError as error:
            raise self._refused(f"{step}.pixels", error) from error

    def tensor(self, found: PortVector, right: Array) -> Array | None:
        try:
            return found.tensor_array(right.shape, right.dtype.name)
        except ValueError as error:
            raise self._refused("tensor", error) from error

    def _refused(self, what: str, error: ValueError) -> ResultsError:
        return ResultsError(
            f"{self.path}: {what} of {self.found.file} is {error}",
            "the bytes of all values in base64",
            "See results.schema.json in the kit",
        )


def _as_channels(given: Pixels, right: Pixels) -> Pixels:
    """Decoded pixels with as many channels as they should have: three equal ones say the same as one."""
    if given.ndim == 3 and right.ndim == 2 and (given == given[..., :1]).all():
        return given[..., 0]
    return given


def _mistake(given: Array, average: float, candidates: Iterator[tuple[str, Array]]) -> str | None:
    """The mistake whose result is nearest to the port's, if it is much nearer than the right one."""
    best, nearest = None, max(average * _NEARER, 1e-6) if math.isfinite(average) else 2.0
    for about, wrong in candidates:
        if wrong.shape == given.shape:
            distance = float(np.abs(given.astype(np.float64) - wrong).mean())
            if distance < nearest:
                best, nearest = about, distance
    return best


def _sizes(array: Array) -> str:
    height, width, *channels = array.shape
    return f"{width}x{height} pixels" + (f" of {channels[0]} channels" if channels else "")
