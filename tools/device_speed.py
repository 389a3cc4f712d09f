"""Measures the speed of the device runtime as ratios: ``make device-speed`` prints them as a table.

All contestants are compared in pairs. In each round every contestant classifies the same files, in turn, in a random
order. A ratio is computed from the sums of one round, so other work of the machine affects both sides.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_edge import bundled
from pneumo_edge._util import children, cores, extras
from pneumo_edge._util.progress import track
from pneumo_edge.errors import DataError, PneumoEdgeError, ResultsError
from pneumo_edge.imaging import images
from pneumo_edge.imaging.images import SUFFIXES
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.batch import predict_each
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.spec import HEATMAP
from tools import contestants
from tools.pages import put_table

_OURS, _EQUAL, _FULL = "pneumo_edge", "equal", "full"
#: X-rays and turns of a round for comparing inference alone, which takes little time.
_TENSORS, _TURNS = 20, 20


@dataclass(frozen=True)
class Bound:
    """The maximum or minimum of a ratio."""

    value: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.value:g}"

    def keeps(self, ratio: float) -> bool:
        """Whether a ratio passes."""
        return ratio >= self.value if self.at_least else ratio <= self.value


@dataclass(frozen=True)
class SpeedComparison:
    """A row of the table: seconds of each round, for ours and for the other."""

    what: str
    against: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    bound: Bound

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio of each round: ours over theirs; for a minimum, theirs over ours (a speed-up)."""
        ratios = np.array(self.ours) / np.array(self.theirs)
        return tuple((1 / ratios if self.bound.at_least else ratios).tolist())

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.ratios))


@dataclass(frozen=True)
class Agreement:
    """Decoding as the classifier does, against every pixel: share of equal decisions, mean change of probability."""

    images: int
    decisions: float
    mean_change: float

    def __str__(self) -> str:
        return (
            f"Against every pixel of the {self.images} images: {self.decisions:.2%} of decisions equal, mean change of "
            f"probability {self.mean_change:.4f}."
        )


@dataclass(frozen=True)
class _Contestant:
    """A child process that classifies files one by one."""

    name: str
    child: children.Child

    def judge(self, path: Path) -> tuple[float, float]:
        """Seconds from file to probability, and the probability."""
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(f"{path}\n".encode())
            self.child.stdin.flush()
        answer = json.loads(self.answer())
        return answer["ns"] / 1e9, answer["probability"]

    def answer(self) -> bytes:
        """The next line of its output."""
        if line := self.child.stdout.readline():
            return line
        self.child.process.wait()
        last = self.child.last_words() or "it left no message"
        raise ResultsError(f"{self.name} ended ({last})", "an answer", "Leave it out, or install what it needs")


@contextlib.contextmanager
def _started(name: str, python: str, model: Path) -> Iterator[_Contestant]:
    """A contestant that is ready, until the block ends."""
    with children.start(contestants.__file__, name, str(model), python=python) as child:
        contestant = _Contestant(name, child)
        contestant.answer()
        yield contestant


def compare_verdicts(
    models: Mapping[str, tuple[str, Path]], paths: Sequence[Path], rounds: int
) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Let contestants classify the same files in turn.

    Args:
        models: For each of :data:`tools.contestants.CONTESTANTS` that takes part, its Python and model file.
        paths: Image files.
        rounds: Number of timed rounds over all files, after one untimed round.

    Returns:
        For each contestant, its seconds in each round, and its probability of each file.

    Raises:
        ResultsError: A contestant does not start or gives up.
    """
    seconds = {name: [0.0] * rounds for name in models}
    answers: dict[str, tuple[float, ...]] = {}
    order = random.Random(0)
    with contextlib.ExitStack() as stack:
        started = {}
        for name, (python, model) in models.items():
            started[name] = stack.enter_context(_started(name, python, model))
            answers[name] = tuple(started[name].judge(path)[1] for path in paths)
        for number in track(range(rounds), "Classifying in turns"):
            for path in paths:
                for name in order.sample(sorted(started), len(started)):
                    seconds[name][number] += started[name].judge(path)[0]
    return {name: tuple(each) for name, each in seconds.items()}, answers


def compare_calls(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, description: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time two calls by turns, after one of each that is not timed; which comes first alternates."""

    def timed(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    ours(), theirs()
    pairs = []
    for number in track(range(rounds), description):
        if number % 2:
            second = timed(theirs)
            pairs.append((timed(ours), second))
        else:
            pairs.append((timed(ours), timed(theirs)))
    first, second_of = zip(*pairs, strict=True)
    return first, second_of


def measure(
    model: Path, paths: Sequence[Path], rounds: int, mediapipe: Path | None, keras: Path | None
) -> tuple[list[SpeedComparison], Agreement]:
    """Make all comparisons that can be made here.

    Args:
        model: A TFLite file with a ModelSpec.
        paths: Image files, at their original resolution.
        rounds: Pairs of each comparison.
        mediapipe: The Python of an environment that has MediaPipe, or None to leave it out.
        keras: The Keras file that the model was made from, or None to leave it out.

    Raises:
        PneumoEdgeError: Something does not run.
    """
    here = sys.executable
    models = dict.fromkeys((_OURS, _EQUAL, _FULL), (here, model))
    against = {
        _EQUAL: ("Pillow and the bare interpreter, equal decode", Bound(1.05)),
        _FULL: ("Pillow and the bare interpreter, every pixel", Bound(0.75)),
    }
    if mediapipe:
        models["mediapipe"] = (str(mediapipe), model)
        against["mediapipe"] = ("MediaPipe Tasks ImageClassifier", Bound(1))
    if keras:
        models["keras"] = (here, keras)
        against["keras"] = ("keras.utils.load_img and model.predict", Bound(0.1))
    seconds, answers = compare_verdicts(models, paths, rounds)
    per_image = {name: tuple(each / len(paths) for each in of_rounds) for name, of_rounds in seconds.items()}
    rows = [
        SpeedComparison("end to end", words, per_image[_OURS], per_image[name], bound)
        for name, (words, bound) in against.items()
    ]
    classifier = Classifier(model)
    threshold = classifier.spec.decision.threshold
    ours, full = np.array(answers[_OURS]), np.array(answers[_FULL])
    agreement = Agreement(
        len(paths), float(np.mean((ours >= threshold) == (full >= threshold))), float(np.abs(ours - full).mean())
    )
    rows += _compare_heatmap(classifier, paths, rounds)
    return [*rows, *_compare_folder(classifier, paths, rounds), *_compare_starts(model, paths[0], rounds)], agreement


def _compare_heatmap(classifier: Classifier, paths: Sequence[Path], rounds: int) -> Iterator[SpeedComparison]:
    """What the heatmap costs: inference alone, with it and in a file that has none."""
    if not classifier.spec.output(HEATMAP):
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / classifier.path.name
        _remove_other_outputs(classifier.path, file)
        plain = engines.load(file, engines.ENGINES[classifier.engine.name], classifier.engine.threads)
        size = classifier.spec.input
        tensors = [
            classifier.as_input(images.load(images.read(path), size.height, size.width)) for path in paths[:_TENSORS]
        ]
        ours, theirs = compare_calls(
            lambda: [classifier.engine.run_all(tensor) for tensor in tensors],
            lambda: [plain.run(tensor) for tensor in tensors],
            _TURNS * rounds,
            "Inferring with the heatmap",
        )
    # As many turns as make a round's sum steady.
    with_it, without = (
        tuple((np.reshape(each, (rounds, _TURNS)).mean(axis=1) / len(tensors)).tolist()) for each in (ours, theirs)
    )
    yield SpeedComparison("inference with the heatmap", "the same network without it", with_it, without, Bound(1.02))


def _remove_other_outputs(model: Path, target: Path) -> None:
    """Copy a TFLite file with its first output alone, and with the operators that this one takes."""
    schema = extras.need("ai_edge_litert.schema_py_generated", "litert")
    parsed = schema.ModelT.InitFromPackedBuf(model.read_bytes())
    (graph,) = parsed.subgraphs
    graph.outputs = graph.outputs[:1]
    needed, kept = set(graph.outputs), []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            kept.append(operator)
    graph.operators = kept[::-1]
    parsed.signatureDefs = None
    builder = extras.need("flatbuffers", "convert").Builder()
    builder.Finish(parsed.Pack(builder), b"TFL3")
    target.write_bytes(builder.Output())


def _compare_folder(classifier: Classifier, paths: Sequence[Path], rounds: int) -> Iterator[SpeedComparison]:
    if cores.available() < 2:
        return

    def with_workers(workers: int) -> Callable[[], object]:
        return lambda: sum(1 for _ in predict_each(classifier, paths, workers))

    pair = compare_calls(with_workers(2), with_workers(1), rounds, "Classifying a folder")
    ours, theirs = (tuple(each / len(paths) for each in of_rounds) for of_rounds in pair)
    yield SpeedComparison("a folder with 2 workers", "with 1 worker", ours, theirs, Bound(1.8, at_least=True))


def _compare_starts(model: Path, image: Path, rounds: int) -> Iterator[SpeedComparison]:
    def run(*words: object) -> Callable[[], object]:
        command = [sys.executable, *map(str, words)]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    for ours, theirs in (
        (("predict", image, "--model", model), "import numpy, PIL.Image"),
        (("--help",), "import typer"),
    ):
        shown = f"pneumo-edge {' '.join(map(str, ours[:1]))}"
        pair = compare_calls(run("-m", "pneumo_edge", *ours), run("-c", theirs), rounds, f"Starting {shown}")
        yield SpeedComparison(f"`{shown}`, cold", f'`python -c "{theirs}"`', *pair, Bound(3))


def render(rows: Sequence[SpeedComparison], agreement: Agreement) -> str:
    """The table and the agreement, Markdown."""
    lines = [
        "| what | against | ms | ms of that | ratio | over the rounds | bound | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ours, theirs = (1e3 * float(np.median(seconds)) for seconds in (row.ours, row.theirs))
        spread = f"{min(row.ratios):.2f} to {max(row.ratios):.2f}"
        passes = "passes" if row.bound.keeps(row.ratio) else "FAILS"
        lines.append(
            f"| {row.what} | {row.against} | {ours:.2f} | {theirs:.2f} | {row.ratio:.2f} | {spread} | {row.bound} "
            f"| {passes} |"
        )
    return "\n".join([*lines, "", str(agreement), ""])


def main() -> None:
    """Compare the device runtime with what else there is, and print the ratios as Markdown."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of X-rays at their original resolution")
    parser.add_argument("--model", default=bundled.DEFAULT, help="a bundled model, or a .tflite file")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of each comparison")
    parser.add_argument("--mediapipe", type=Path, help="the python of an environment with MediaPipe")
    parser.add_argument("--keras", type=Path, help="the model.keras of the run that the model was exported from")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its markers")
    options = parser.parse_args()
    try:
        paths = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise DataError(f"{options.images} holds no images", "a folder of X-rays", "Name another with --images")
        model = bundled.find(options.model)
        rows, agreement = measure(model, paths, options.rounds, options.mediapipe, options.keras)
        for name, given in (("MediaPipe", options.mediapipe), ("Keras", options.keras)):
            if not given:
                print(f"{name} is left out: --{name.lower()} is not given", file=sys.stderr)
        if cores.available() < 2:
            print("A folder with 2 workers is left out: there is 1 core", file=sys.stderr)
        text = render(rows, agreement)
        print(text)
        if options.page:
            put_table(options.page, "device-speed", text)
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
