"""How often drift is found where there is some, and where there is none: ``make drift-trials``.

A network is trained on phantom images and exported. Then phantom images of other patients are drawn for each trial,
with as many of each class, and their answers are compared with the validation images' answers in the file. In the first
trials the same images are changed besides, as another X-ray machine or another export might have made them
(:mod:`pneumo_edge.training.shifts`), and those of one class alone are compared. The trials are kept in
``results/drift/trials.json``; trials that are there already are not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumo_edge import Classifier, Prediction
from pneumo_edge._util import files, markdown, records
from pneumo_edge._util.document import Cell, Table
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.evaluation import drift, metrics
from pneumo_edge.evaluation.drift import Comparison
from pneumo_edge.imaging import images
from pneumo_edge.training.shifts import SHIFTS
from tools import pages

RESULTS = Path("results", "drift", "trials.json")
PAGE = Path("docs", "drift.md")
UNCHANGED, ONE_CLASS = "unchanged", "PNEUMONIA alone"
#: What is trained: small, so that the network takes minutes on one core.
_BACKBONE, _SIDE, _PER_CLASS = "mobilenetv2", 96, 400
_FIRST_SEED = 1000


@dataclass(frozen=True)
class Trial:
    """The comparisons of one set of images; ``change`` is what was done to them, :data:`UNCHANGED` or a name."""

    seed: int
    change: str
    images: int
    comparisons: tuple[Comparison, ...]

    @property
    def alarm(self) -> bool:
        """Whether drift was found in any number."""
        return any(each.drift for each in self.comparisons)

    def index(self, number: str) -> float:
        """The stability index of the distance or of the probability."""
        return next(each.index for each in self.comparisons if each.number == number)


@dataclass(frozen=True)
class Trials:
    """All trials, with the validation images that the file carries."""

    validation: int
    independent: float
    per_class: int
    trials: tuple[Trial, ...] = ()


def make_file(folder: Path) -> Path:
    """Train the network on phantom images and export it; what is there already is kept."""
    data, run, models = folder / "phantom", folder / "run", folder / "models"
    if not data.exists():
        make_phantom(data, 0, _PER_CLASS, 2)
    program = [sys.executable, "-m", "pneumo_edge"]
    train = ["train", "--data", str(data), "--backbone", _BACKBONE, "--image-size", str(_SIDE), "--recipe", "quick"]
    subprocess.run([*program, *train, "--out", str(run)], check=True)
    subprocess.run([*program, "export", str(run), "--format", "tflite-fp32", "--out", str(models)], check=True)
    (path,) = models.glob("*.tflite")
    return path


def compare(classifier: Classifier, answers: Sequence[Prediction]) -> tuple[Comparison, ...]:
    """Compare answers with those on the validation images that the file carries."""
    described = classifier.spec.validation_distribution
    assert described
    probabilities = {name: np.array([each.probabilities[name] for each in answers]) for name in described.probabilities}
    distances = np.array([each.distance for each in answers], dtype=np.float64)
    return drift.compare(described, {None: drift.count(described, probabilities, distances)})


def trials(classifier: Classifier, seed: int, per_class: int, changed: bool) -> Iterator[Trial]:
    """Draw images and compare them as they are; then, if asked for, with each change."""
    with tempfile.TemporaryDirectory() as folder:
        data = make_phantom(Path(folder, "phantom"), _FIRST_SEED + seed, per_class, 1)
        paths = sorted((data / "train").rglob("*.jpeg"))
        answers = [classifier.predict(path) for path in paths]
        yield Trial(seed, UNCHANGED, len(paths), compare(classifier, answers))
        if changed:
            pixels = [np.asarray(images.decode(path.read_bytes())) for path in paths]
            for name, change in SHIFTS.items():
                shifted = [classifier.predict(change(each)) for each in pixels]
                yield Trial(seed, name, len(paths), compare(classifier, shifted))
            ill = [answer for path, answer in zip(paths, answers, strict=True) if path.parent.name == "PNEUMONIA"]
            yield Trial(seed, ONE_CLASS, len(ill), compare(classifier, ill))


def table(done: Trials) -> Table:
    """A row for each change: how often drift was found, and the median stability indices."""
    rows = []
    for change in dict.fromkeys(each.change for each in done.trials):
        of = [each for each in done.trials if each.change == change]
        alarms = sum(each.alarm for each in of)
        share = metrics.wilson(alarms, len(of))
        distance, probability = (float(np.median([each.index(n) for each in of])) for n in ("distance", "probability"))
        found = f"{alarms} of {len(of)} [{share.low:.0%}, {share.high:.0%}]"
        rows.append(tuple(map(Cell, (change, found, f"{distance:.2f}", f"{probability:.2f}"))))
    return Table(("images", "drift found", "index of the distance", "index of the probability"), 1, tuple(rows))


def main(arguments: list[str] | None = None) -> int:
    """Make the trials that are missing, and put the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the phantom images, the run and the model file")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--changed", type=int, default=5, help="trials in which images are changed")
    parser.add_argument("--per-class", type=int, default=100)
    chosen = parser.parse_args(arguments)
    classifier = Classifier(make_file(chosen.folder))
    described = classifier.spec.validation_distribution
    assert described and described.distance
    done = Trials(sum(described.distance.counts), described.independent, chosen.per_class)
    if RESULTS.exists():
        earlier = records.loads(Trials, RESULTS.read_bytes())
        if replace(earlier, trials=()) != done:
            parser.error(f"{RESULTS} has trials of another file or other images; move it away")
        done = earlier
    for seed in sorted(set(range(chosen.trials)) - {each.seed for each in done.trials}):
        made = tuple(trials(classifier, seed, chosen.per_class, seed < chosen.changed))
        done = replace(done, trials=(*done.trials, *made))
        files.write_text(RESULTS, records.document(done))
        print(seed, *(f"{each.change}: {'drift' if each.alarm else '-'}" for each in made), flush=True)
    pages.put_table(PAGE, "drift-trials", f"{markdown.table(table(done))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
