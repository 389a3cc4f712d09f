"""Adds further measurements to the results of a benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pneumo_edge._util.scratch import Scratch, scratch
from pneumo_edge.benchmarks import machine
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.supplement.measures import MEASURES, Context, Target
from pneumo_edge.benchmarks.supplement.records import Supplement, Unavailable
from pneumo_edge.data.sources import Sample, Source
from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring import decoding
from pneumo_edge.scoring.decoding import InputSize
from pneumo_edge.scoring.models import ModelFile, Skipped, find_models, read_models

#: Number of test images of each class that calls cycle through.
_IMAGES_OF_A_CLASS = 32


def measure(
    results: Results,
    paths: Sequence[Path],
    source: Source,
    measures: Iterable[str],
    logs: Path,
    *,
    keep: Callable[[Results], None] = lambda results: None,
    tell: Callable[[Unavailable], None] = lambda unavailable: None,
) -> Results:
    """Add measurements to a benchmark, on the same machine and with the same files.

    Earlier measurements of the same kind and files are replaced.

    Args:
        results: The results of the benchmark.
        paths: Its model files, or some of them, and folders that are searched for them.
        source: The data set; models are called on its test images.
        measures: Names of :data:`~pneumo_edge.benchmarks.supplement.measures.MEASURES`.
        logs: Folder for the files that LoadGen writes.
        keep: Called with the results after each measure.
        tell: Called for everything that cannot be measured, as soon as it is known.

    Raises:
        ResultsError: The results come from another machine or from other files.
        DataError: The data set has too few test images.
        MissingExtraError: psutil or py-cpuinfo is not installed.
    """
    _check_machine(results)
    files = _match(results, read_models(find_models(paths), lambda skipped: tell(_unreadable(skipped)), source.task))
    with scratch() as place:
        targets = _prepare(results, files, source, place)
        for each in measures:
            found = _measure(each, targets, results.settings.seed, place.folder, logs, tell)
            results = replace(results, supplement=_merge(results.supplement or Supplement(), found, each, set(files)))
            keep(results)
    return results


def _check_machine(results: Results) -> None:
    here = machine.describe()
    if (here.cpu, here.cores) != (results.machine.cpu, results.machine.cores):
        raise ResultsError(
            f"the results come from {results.machine.cpu} with {results.machine.cores} cores, and this is "
            f"{here.cpu} with {here.cores}",
            "the machine that the benchmark ran on",
            "Run `supplement` on that machine, or run `pneumo-edge benchmark` on this one",
        )


def _unreadable(skipped: Skipped) -> Unavailable:
    return Unavailable("all", skipped.model, skipped.reason)


def _match(results: Results, found: Iterable[ModelFile]) -> dict[str, ModelFile]:
    """The given files that are in the results, by their names in the results."""
    names = {model.sha256: model.file for model in results.models}
    files = {names[file.model.sha256]: file for file in found if file.model.sha256 in names}
    if not files:
        raise ResultsError(
            "none of the model files is in the results, by SHA-256",
            f"one of {', '.join(sorted(names.values()))}",
            "Give the files that the benchmark measured",
        )
    return files


def _prepare(results: Results, files: dict[str, ModelFile], source: Source, place: Scratch) -> list[Target]:
    sizes = {name: InputSize.of(file.spec) for name, file in files.items()}
    decoded = decoding.decode(source, _choose(source, results.settings.seed), "test", sizes.values(), place)
    return [
        Target(result, files[result.unit.model], decoded.pixels[sizes[result.unit.model]])
        for result in results.units
        if result.unit.model in files
    ]


def _choose(source: Source, seed: int) -> list[Sample]:
    """A random choice of test images of each class."""
    chosen: list[Sample] = []
    for label in range(len(source.task.class_names)):
        of_class = [sample for sample in source.samples if (sample.split, sample.label) == ("test", label)]
        chosen += random.Random(seed).sample(of_class, min(len(of_class), _IMAGES_OF_A_CLASS))
    return chosen


def _measure(
    name: str, targets: Sequence[Target], seed: int, folder: Path, logs: Path, tell: Callable[[Unavailable], None]
) -> Supplement:
    """Run one measure of the table, and collect what was not available."""
    unavailable: list[Unavailable] = []

    def skip(subject: str, reason: str) -> None:
        unavailable.append(Unavailable(name, subject, reason))
        tell(unavailable[-1])

    found = MEASURES[name].measure(Context(targets, seed, folder, logs, skip))
    return replace(found, unavailable=tuple(unavailable))


def _merge(before: Supplement, found: Supplement, name: str, models: set[str]) -> Supplement:
    """Replace the earlier entries of the same measure for the same files or the machine."""
    unavailable = tuple(each for each in before.unavailable if each.measure != name) + found.unavailable
    return replace(before.with_parts(MEASURES[name].parts, found, models), unavailable=unavailable)
