"""How often the intervals and claims about networks are right, in simulated trainings: ``make network-simulation``.

Scores are drawn as Roe and Metz do (Academic Radiology 4, 1997): a normal deviate for each image and training is the
sum of what all networks see in it, of what one network sees, and of what one training sees. Half of each belongs to the
patient. A training has an AUC of its own besides. Labels and patients are those of the test images, and the shares of
variance are near those of the trainings in ``results/evaluation``. In some scenarios a block of negatives looks
positive, as the films with a mark do. The truth is known in closed form.

Each trial asks :func:`pneumo_edge.evaluation.networks.compare` and, in the first trials of some scenarios, a bootstrap
over trainings and patients. Counts are kept in ``results/networks/simulation.json``; a scenario with enough trials is
not drawn again.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files, markdown, records
from pneumo_edge._util.document import Cell, Table
from pneumo_edge.evaluation import metrics, networks
from pneumo_edge.evaluation.bootstrap import STATISTICS, DecisionCounts, draw_patients
from pneumo_edge.evaluation.comparison import PatientShares, accuracy_shares, auc_shares
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN
from pneumo_edge.evaluation.tally import tally
from pneumo_edge.scoring import scores as scores_file
from tools import pages

RESULTS = Path("results", "networks", "simulation.json")
PAGE = Path("docs", "evaluation.md")
_IMAGES = Path("results", "evaluation", "scores.json")
#: Shares of the variance of a score: seen by all networks, by one network, by one training.
_SHARES = (0.88, 0.03, 0.09)
_REPLICATES = 400
_LEVEL = 0.05
_HALF = 0.5


@dataclass(frozen=True)
class Scenario:
    """Networks that are compared.

    Attributes:
        name: What it is about.
        trainings: Of each network.
        auc: Of each network, without a block.
        sd: Standard deviation of the AUC between trainings of each network.
        block: Share of the negative patients that look positive.
        bootstrap: Whether the bootstrap is asked, too.
    """

    name: str
    trainings: tuple[int, ...]
    auc: tuple[float, ...]
    sd: tuple[float, ...]
    block: float = 0.0
    bootstrap: bool = False


#: How much more positive a block looks, and how much that differs between trainings.
_BLOCK_SHIFT, _BLOCK_SD = 1.9, 0.5

SCENARIOS = (
    Scenario("equal networks", (5, 5), (0.98, 0.98), (0.005, 0.005), bootstrap=True),
    Scenario("equal networks", (3, 3), (0.98, 0.98), (0.005, 0.005), bootstrap=True),
    Scenario("equal networks", (2, 2), (0.98, 0.98), (0.005, 0.005)),
    Scenario("equal networks", (3, 5), (0.98, 0.98), (0.005, 0.005)),
    Scenario("trainings alike", (5, 5), (0.98, 0.98), (0.0, 0.0)),
    Scenario("trainings alike", (3, 3), (0.98, 0.98), (0.0, 0.0)),
    Scenario("trainings far apart", (5, 5), (0.98, 0.98), (0.012, 0.012), bootstrap=True),
    Scenario("unequal spread", (5, 5), (0.98, 0.98), (0.002, 0.01)),
    Scenario("different networks", (5, 5), (0.975, 0.99), (0.005, 0.004)),
    Scenario("worse by the margin", (5, 5), (0.972, 0.982), (0.005, 0.005)),
    Scenario("worse by the margin", (3, 3), (0.972, 0.982), (0.005, 0.005)),
    Scenario("a block of negatives", (5, 5), (0.993, 0.993), (0.002, 0.002), 0.06, bootstrap=True),
    Scenario("a block of negatives", (3, 3), (0.993, 0.993), (0.002, 0.002), 0.06),
    Scenario("three equal networks", (5, 5, 5), (0.98,) * 3, (0.005,) * 3),
    Scenario("three equal networks", (3, 3, 3), (0.98,) * 3, (0.005,) * 3),
)


@dataclass(frozen=True)
class Counted:
    """What was counted in the trials of a scenario, over all pairs of its networks unless said otherwise.

    Attributes:
        scenario: The scenario.
        trials: Trials.
        pairs: Pairs of networks in all trials.
        auc_covered: Pairs whose interval of the difference in AUC holds the truth.
        accuracy_covered: The same of accuracy.
        auc_width: Mean width of the interval of the difference in AUC.
        as_accurate: Pairs of which the first is called as accurate as the second.
        alarms: Trials in which any pair is called different after the correction for their number.
        bootstrap_trials: Trials in which the bootstrap was asked; there is one pair in each.
        bootstrap_covered: Those whose bootstrap interval holds the truth.
        bootstrap_width: Mean width of the bootstrap interval.
        beside_width: Mean width of the interval of the difference in AUC in the same trials.
    """

    scenario: Scenario
    trials: int
    pairs: int
    auc_covered: int
    accuracy_covered: int
    auc_width: float
    as_accurate: int
    alarms: int
    bootstrap_trials: int = 0
    bootstrap_covered: int = 0
    bootstrap_width: float = 0.0
    beside_width: float = 0.0


@dataclass(frozen=True)
class Simulation:
    """All scenarios."""

    counted: tuple[Counted, ...] = ()


@dataclass(frozen=True)
class TestImages:
    """Labels and patients of the images that scores are drawn for."""

    labels: Labels
    patients: tuple[str, ...]

    @property
    def patient_of(self) -> npt.NDArray[np.int64]:
        """The place of each image's patient."""
        return np.asarray(np.unique(np.array(self.patients), return_inverse=True)[1])


def test_images() -> TestImages:
    """Those of the evaluation."""
    data = scores_file.read(_IMAGES).data
    return TestImages(data.targets, tuple(image.patient for image in data.images))


class _Networks:
    """A scenario whose scores can be drawn."""

    def __init__(self, scenario: Scenario, images: TestImages) -> None:
        self.scenario, self.images = scenario, images
        normal = NormalDist()
        self.distances = [math.sqrt(2) * normal.inv_cdf(auc) for auc in scenario.auc]
        slopes = [normal.pdf(distance / math.sqrt(2)) / math.sqrt(2) for distance in self.distances]
        self.spreads = [sd / slope for sd, slope in zip(scenario.sd, slopes, strict=True)]

    @property
    def auc(self) -> list[float]:
        """The true AUC of each network: the mean over all trainings."""
        return [
            self._over_negatives(distance, 2 + spread**2)
            for distance, spread in zip(self.distances, self.spreads, strict=True)
        ]

    @property
    def accuracy(self) -> list[float]:
        """The true accuracy of each network at half of its distance, with the shares of classes of the images."""
        positive = float(np.mean(self.images.labels == 1))
        return [
            positive * NormalDist().cdf(distance / 2 / math.sqrt(1 + spread**2))
            + (1 - positive) * self._over_negatives(distance / 2, 1)
            for distance, spread in zip(self.distances, self.spreads, strict=True)
        ]

    def _over_negatives(self, distance: float, variance: float) -> float:
        normal, block = NormalDist(), self.scenario.block
        usual = normal.cdf(distance / math.sqrt(variance))
        in_block = normal.cdf((distance - _BLOCK_SHIFT) / math.sqrt(variance + _BLOCK_SD**2))
        return (1 - block) * usual + block * in_block

    def draw(self, generator: np.random.Generator) -> list[list[Scores]]:
        """The probabilities of each training of each network; a decision is at one half."""
        labels, patient_of = self.images.labels, self.images.patient_of
        people = int(patient_of.max()) + 1

        def noise(share: float) -> Scores:
            by_patient, by_image = generator.standard_normal(people), generator.standard_normal(len(labels))
            return np.asarray(math.sqrt(share / 2) * (by_patient[patient_of] + by_image))

        of_all, of_network, of_training = _SHARES
        in_block = (generator.random(people) < self.scenario.block)[patient_of] & (labels == 0)
        shared, drawn = noise(of_all), []
        for count, distance, spread in zip(self.scenario.trainings, self.distances, self.spreads, strict=True):
            own = shared + noise(of_network)
            drawn.append(
                [
                    _probabilities(
                        own
                        + noise(of_training)
                        + np.where(labels == 1, distance + spread * generator.standard_normal(), 0.0)
                        + np.where(in_block, _BLOCK_SHIFT + _BLOCK_SD * generator.standard_normal(), 0.0)
                        - distance / 2
                    )
                    for _ in range(count)
                ]
            )
        return drawn


def _probabilities(deviates: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-deviates)))


def simulate(
    scenario: Scenario, images: TestImages, trials: int, bootstrap_trials: int = 0, seed: Sequence[int] = ()
) -> Counted:
    """Count the trials of a scenario in which intervals and claims are right.

    Args:
        scenario: What is drawn.
        images: The images it is drawn for.
        trials: How often.
        bootstrap_trials: In how many of them the bootstrap is asked, where the scenario has it.
        seed: What a trial's seed begins with, to draw others than those of the record.
    """
    drawn = _Networks(scenario, images)
    truth_auc, truth_accuracy = drawn.auc, drawn.accuracy
    pairs = list(combinations(range(len(scenario.trainings)), 2))
    found = Counted(scenario, trials, trials * len(pairs), 0, 0, 0.0, 0, 0)
    for trial in range(trials):
        recorded = [trial, len(scenario.trainings), *scenario.trainings]
        of_networks = drawn.draw(np.random.default_rng([*seed, trial] if seed else recorded))
        aucs, accuracies = _shares(drawn, of_networks)
        p_values = []
        for one, two in pairs:
            by_auc = networks.compare(aucs[one], aucs[two])
            by_accuracy = networks.compare(accuracies[one], accuracies[two])
            interval, beside = by_auc.interval(), by_accuracy.interval()
            p_values.append(by_auc.p())
            found = replace(
                found,
                auc_covered=found.auc_covered + (interval.low <= truth_auc[one] - truth_auc[two] <= interval.high),
                accuracy_covered=found.accuracy_covered
                + (beside.low <= truth_accuracy[one] - truth_accuracy[two] <= beside.high),
                auc_width=found.auc_width + (interval.high - interval.low) / (trials * len(pairs)),
                as_accurate=found.as_accurate + (interval.low > -ACCURACY_MARGIN),
            )
        found = replace(found, alarms=found.alarms + (min(networks.holm(p_values)) <= _LEVEL))
        if scenario.bootstrap and trial < bootstrap_trials:
            low, high = _bootstrap(images, of_networks, trial)
            width = networks.compare(aucs[0], aucs[1]).interval()
            found = replace(
                found,
                bootstrap_trials=found.bootstrap_trials + 1,
                bootstrap_covered=found.bootstrap_covered + (low <= truth_auc[0] - truth_auc[1] <= high),
                bootstrap_width=found.bootstrap_width + (high - low) / bootstrap_trials,
                beside_width=found.beside_width + (width.high - width.low) / bootstrap_trials,
            )
    return found


def _shares(
    drawn: _Networks, of_networks: Sequence[Sequence[Scores]]
) -> tuple[list[list[PatientShares]], list[list[PatientShares]]]:
    """AUC and accuracy of each training of each network, by patient."""
    labels, patients = drawn.images.labels, drawn.images.patients
    aucs = [[auc_shares(labels, scores, patients) for scores in of_network] for of_network in of_networks]
    accuracies = [
        [accuracy_shares((scores >= _HALF) == (labels == 1), patients) for scores in of_network]
        for of_network in of_networks
    ]
    return aucs, accuracies


def _bootstrap(images: TestImages, of_networks: Sequence[Sequence[Scores]], seed: int) -> tuple[float, float]:
    """The percentile interval of the difference in AUC: trainings are drawn in each network, and patients for all."""
    generator = np.random.default_rng(seed)
    weights = np.concatenate(list(draw_patients(images.labels, images.patients, _REPLICATES, seed)))
    means = []
    for of_network in of_networks[:2]:
        areas = np.array([_areas(images.labels, scores, weights) for scores in of_network])
        chosen = generator.integers(len(of_network), size=(len(of_network), _REPLICATES))
        means.append(np.take_along_axis(areas, chosen, axis=0).mean(axis=0))
    low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
    return float(low), float(high)


def _areas(labels: Labels, scores: Scores, weights: npt.NDArray[np.int64]) -> Scores:
    return STATISTICS["auc"](DecisionCounts(tally(labels, scores, weights), _HALF))


def table(simulation: Simulation) -> Table:
    """A row for each scenario."""
    return Table(
        (
            "networks",
            "trainings",
            "AUC",
            "SD of trainings",
            "interval of AUC holds the truth",
            "of accuracy",
            "false alarms",
            "called as accurate",
            "bootstrap's interval",
        ),
        4,
        tuple(tuple(map(Cell, _cells(each))) for each in simulation.counted),
    )


def _cells(found: Counted) -> Iterator[str]:
    scenario = found.scenario
    yield scenario.name
    yield " + ".join(map(str, scenario.trainings))
    yield ", ".join(dict.fromkeys(f"{auc:g}" for auc in scenario.auc))
    yield ", ".join(dict.fromkeys(f"{sd:g}" for sd in scenario.sd))
    yield _percent(found.auc_covered, found.pairs)
    yield _percent(found.accuracy_covered, found.pairs)
    yield _percent(found.alarms, found.trials) if len(set(zip(scenario.auc, scenario.sd, strict=True))) == 1 else ""
    yield _percent(found.as_accurate, found.pairs)
    yield _percent(found.bootstrap_covered, found.bootstrap_trials) if found.bootstrap_trials else ""


def _percent(part: int, whole: int) -> str:
    interval = metrics.wilson(part, whole)
    return f"{100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def main(arguments: list[str] | None = None) -> int:
    """Draw the scenarios that are missing, and put the counts into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--bootstrap-trials", type=int, default=400)
    parser.add_argument("--again", type=int, nargs="+", help="draw scenarios of these numbers again, and only print")
    parser.add_argument("--seed", type=int, default=20261201, help="that of --again")
    chosen = parser.parse_args(arguments)
    if chosen.again:
        for place in chosen.again:
            found = simulate(SCENARIOS[place], test_images(), chosen.trials, seed=(chosen.seed, place))
            print(*_cells(found), sep=" | ", flush=True)
        return 0
    known = records.loads(Simulation, RESULTS.read_bytes()).counted if RESULTS.exists() else ()
    done = {each.scenario: each for each in known if each.trials >= chosen.trials and each.scenario in SCENARIOS}
    images = test_images()
    for scenario in SCENARIOS:
        if scenario not in done:
            done[scenario] = simulate(scenario, images, chosen.trials, chosen.bootstrap_trials)
            print(*_cells(done[scenario]), sep=" | ", flush=True)
            ordered = tuple(done[each] for each in SCENARIOS if each in done)
            files.write_text(RESULTS, records.document(Simulation(ordered)))
    pages.put_table(PAGE, "network-simulation", f"{markdown.table(table(Simulation(tuple(done.values()))))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
