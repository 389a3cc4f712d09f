"""Mixed precision: searches the fewest operators that have to stay in float32 for a file to pass.

The operators are taken in groups of neighbours in the graph. First each group is quantized alone, and the groups are
ranked by how far that moves the answers on calibration images. Then files are made that keep the first operators of
that ranking in float32, 1, 2, 4 and so on until one passes its acceptance checks, and the number is halved down from
there. The same is done with the operators in the order of the graph, up to twice as many: in one piece they need fewer
conversions between the two arithmetics. That file is taken if it is measured to be faster, or has fewer operators in
float32.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from pneumo_edge._util.progress import bar
from pneumo_edge.converters import ranges, stability, tflite
from pneumo_edge.converters.acceptance import Candidate
from pneumo_edge.converters.isolated import Child
from pneumo_edge.converters.prepare import Prepared
from pneumo_edge.converters.tflite import Operator
from pneumo_edge.converters.verify import Verified, installed_engines, measure, verify
from pneumo_edge.errors import GateError
from pneumo_edge.formats import FORMATS, Format
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime import engines
from pneumo_edge.spec import CalibrationSpec, MixedPrecisionSpec

#: The format of a file that has nothing in float32.
INT8 = FORMATS["tflite-int8"]
#: What to do about a file of that format that fails.
INSTEAD = "Use tflite-mixed, which keeps some operators in float32, another format, or a model trained longer"
INSTEAD_OF_MIXED = "Use a format whose activations stay in float, such as tflite-fp16 or tflite-weight-only"
#: Calibration images that operators are ranked by, at most.
_RANKED_BY = 32
#: Groups of operators that are ranked, at most.
_GROUPS = 16
#: Each of two files is timed so many times, in turns.
_ROUNDS = 40
#: The first operators of the graph stay in float32 instead of the most sensitive ones where they are at most so many
#: times as many, and the file needs less than this share of the other's time.
_MOST_MORE, _FASTER = 2, 0.95

Passed = TypeVar("Passed")
Order = Literal["sensitivity", "graph"]


@dataclass(frozen=True)
class Found:
    """A file that passed.

    Attributes:
        path: The file, without a ModelSpec.
        verified: The results of its verification.
        calibrated: Its calibration, with the operators that stay in float32.
    """

    path: Path
    verified: Verified
    calibrated: CalibrationSpec


@dataclass(frozen=True)
class _Try:
    """A file with some operators in float32 that passed."""

    in_float: tuple[Operator, ...]
    path: Path
    verified: Verified
    stability: dict[str, float] | None


def search(prepared: Prepared, row: Format, place: Path, child: Child) -> Found:
    """Make the file of a network in which the fewest operators are in float32.

    Args:
        prepared: The inputs of the conversion.
        row: The format.
        place: Folder for files.
        child: The child process.

    Returns:
        The file. Where the network passes with all its operators in int8, none is in float32.

    Raises:
        ConversionError: A conversion failed.
        GateError: The file fails unless all its operators are in float32.
        ModelFileError: An engine refused a file.
    """
    return _Search(prepared, row, place, child).run()


def fewest(total: int, attempt: Callable[[int], Passed | GateError], least: int = 1) -> Passed | GateError:
    """The result with the smallest number that passes, found in doubling steps up and then halving steps down.

    Args:
        total: The largest number.
        attempt: What a number gives.
        least: The smallest number.

    Returns:
        What ``attempt`` returned for that number; for ``total`` if none passes.
    """
    number = min(least, total)
    failing = number - 1
    while isinstance(best := attempt(number), GateError):
        if number == total:
            return best
        failing, number = number, min(2 * number - least + 1, total)
    while number - failing > 1:
        middle = (failing + number) // 2
        tried = attempt(middle)
        if isinstance(tried, GateError):
            failing = middle
        else:
            best, number = tried, middle
    return best


class _Search:
    def __init__(self, prepared: Prepared, row: Format, place: Path, child: Child) -> None:
        self._prepared, self._row, self._place, self._child = prepared, row, place, child
        self._name = row.file_name(prepared.opened.run.backbone)
        self._positive = prepared.opened.run.task.positive_index
        self._tries = 0
        self._float, self._other_float = place / "with-ranges.tflite", place / "with-other-ranges.tflite"

    def run(self) -> Found:
        images, network = self._prepared.representative, self._prepared.opened.network
        share = 1.0
        with bar(f"Converting to {self._name}", 1) as advance:
            share = self._child.call(tflite.write_with_ranges, network, images.pixels, self._float)
            if images.other_pixels is not None:
                self._child.call(tflite.write_with_ranges, network, images.other_pixels, self._other_float)
            advance(1, "")
        calibrated = CalibrationSpec(images.images, images.manifest, share)
        whole = self._attempt(())
        if isinstance(whole, _Try):
            spec = MixedPrecisionSpec((), len(self._operators()), None, {}, None, {})
            return self._found(whole, calibrated, spec)
        alone = self._convert(self._float, ())
        measured = measure(Candidate(alone, self._row, self._positive), self._prepared.reference)
        operators = self._operators()
        best, order = self._choose(whole, operators)
        whole_float = self._convert(self._float, operators)
        spec = MixedPrecisionSpec(
            tuple(f"{each.kind} {each.name}" for each in best.in_float),
            len(operators),
            order,
            {name: value for name, value in asdict(measured).items() if value is not None},
            f"{whole.given}; expected {whole.expected}",
            dict(zip(("float32", "int8", "mixed"), self._times([whole_float, alone, best.path]), strict=True)),
        )
        return self._found(best, calibrated, spec)

    def _found(self, best: _Try, calibrated: CalibrationSpec, spec: MixedPrecisionSpec) -> Found:
        calibrated = replace(calibrated, stability=best.stability, mixed_precision=spec)
        return Found(best.path, best.verified, calibrated)

    def _choose(self, whole: GateError, in_graph: Sequence[Operator]) -> tuple[_Try, Order]:
        """The best file, and the order of its operators."""
        ranked = self._fewest_of(self._rank(in_graph))
        if isinstance(ranked, GateError):
            raise GateError(
                f"{self._name} fails with any number of operators in float32: with none, {whole.given}; with all but "
                f"one of {len(in_graph)}, {ranked.given}",
                ranked.expected,
                INSTEAD_OF_MIXED,
            )
        in_one_piece = self._fewest_of(in_graph[: _MOST_MORE * len(ranked.in_float) + 1])
        if isinstance(in_one_piece, _Try):
            mine, theirs = self._times([ranked.path, in_one_piece.path])
            if theirs < _FASTER * mine or len(in_one_piece.in_float) < len(ranked.in_float):
                return in_one_piece, "graph"
        return ranked, "sensitivity"

    def _fewest_of(self, order: Sequence[Operator]) -> _Try | GateError:
        def attempt(number: int, *, first_only: bool) -> _Try | GateError:
            return self._attempt(order[:number], first_only=first_only)

        # With all of them in float32 it would be another format.
        total = len(order) - 1
        # Few files that pass on the first engine fail on another, and the others can be far slower.
        found = fewest(total, functools.partial(attempt, first_only=True))
        if isinstance(found, GateError):
            return found
        return fewest(total, functools.partial(attempt, first_only=False), len(found.in_float))

    def _attempt(self, in_float: Sequence[Operator], *, first_only: bool = False) -> _Try | GateError:
        """Make a file and check it as :mod:`pneumo_edge.converters.export` does; or why it fails."""
        path = self._convert(self._float, in_float)
        try:
            prepared = self._prepared
            candidate = Candidate(path, self._row, self._positive)
            verified = verify(candidate, prepared.reference, prepared.described, first_only=first_only)
            agreement = None
            if self._other_float.exists() and not first_only:
                other = self._convert(self._other_float, in_float)
                agreement = stability.compare_calibrations(path, other, self._row, verified, self._positive)
        except GateError as error:
            return error
        return _Try(tuple(in_float), path, verified, agreement)

    def _convert(self, with_ranges: Path, in_float: Sequence[Operator]) -> Path:
        # Engines map the files into memory, so none is written over another; and they have the name in messages.
        self._tries += 1
        row = self._row if in_float else INT8
        path = self._place / f"try-{self._tries}" / row.file_name(self._prepared.opened.run.backbone)
        path.parent.mkdir()
        self._child.call(tflite.mixed, with_ranges, tuple(in_float), path)
        return path

    def _operators(self) -> list[Operator]:
        return self._child.call(tflite.operators, self._float)

    def _rank(self, operators: Sequence[Operator]) -> list[Operator]:
        """Operators by the mean square by which their group, quantized alone, changes log-probabilities.

        A group is neighbours in the graph: an operator in float32 between two in int8 still has 8 bits at both ends.
        """
        images, size = self._images(), math.ceil(len(operators) / _GROUPS)
        groups = [operators[start : start + size] for start in range(0, len(operators), size)]
        exact, changes = self._ask(images, operators), []
        with bar(f"Ranking the operators of {self._name}", len(groups)) as advance:
            for group in groups:
                alone = self._ask(images, [each for each in operators if each not in group])
                changes.append(float(np.mean((alone - exact) ** 2)))
                advance(1, "")
        return [each for place in np.argsort(changes, kind="stable")[::-1] for each in groups[place]]

    def _ask(self, images: Pixels, in_float: Sequence[Operator]) -> ranges.Floats:
        return ranges.logarithm(self._child.call(tflite.mixed_answers, self._float, tuple(in_float), images))

    def _images(self) -> Pixels:
        pixels = self._prepared.representative.pixels
        return np.asarray(pixels[np.linspace(0, len(pixels) - 1, min(len(pixels), _RANKED_BY)).astype(int)])

    def _times(self, files: Sequence[Path]) -> list[float]:
        """Median CPU time of an inference with one thread, in milliseconds, of files that are run in turns."""
        info = installed_engines(self._row)[0]
        loaded = [engines.load(path, info, 1) for path in files]
        image = self._images()[:1]
        tensors = [image.astype(engine.input_dtype) for engine in loaded]
        spent = np.empty((_ROUNDS, len(files)))
        for turn in range(_ROUNDS):
            for place, (engine, tensor) in enumerate(zip(loaded, tensors, strict=True)):
                started = time.thread_time_ns()
                engine.run(tensor)
                spent[turn, place] = (time.thread_time_ns() - started) / 1e6
        return [float(each) for each in np.median(spent, axis=0)]
