"""``pneumo_edge.benchmark``: from model files to measurements and the verdict on the claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import cores, extras, jobs, outputs
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, Models, PathArgument, Tell
from pneumo_edge.api.evaluate import describe_skipped
from pneumo_edge.benchmarks import report, results, verdict_file
from pneumo_edge.benchmarks.protocol import (
    MIN_PROCESSES,
    MIN_SUSTAINED_SECONDS,
    MOST_COOL_C,
    MOST_SECONDS,
    MOST_SUSTAINED_SECONDS,
    PRESETS,
    BenchmarkSettings,
    SustainedSettings,
)
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.resume import Measurements
from pneumo_edge.benchmarks.run import run
from pneumo_edge.benchmarks.summary import Summary, summarise
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict
from pneumo_edge.errors import ArgumentError
from pneumo_edge.runtime.engines import ENGINES, USUAL
from pneumo_edge.runtime.engines.tensors import Given


@dataclass(frozen=True)
class Benchmark:
    """Measurements and verdict of a benchmark.

    Attributes:
        results: The raw results: every sample of every unit, the machine, and what was skipped.
        summary: The metrics of each unit with their intervals, computed from the raw results.
        verdict: Each claim with its outcome and its evidence, and the files that no other file beats.
        results_file: ``results.json``, with the raw results.
        verdict_file: ``verdict.json``, with the verdict in numbers.
        reports: The report pages that were written.
    """

    results: Results
    summary: Summary
    verdict: BenchmarkVerdict
    results_file: Path
    verdict_file: Path
    reports: tuple[Path, ...]


def benchmark(
    models: Models,
    data: DataArgument | None = None,
    *,
    engines: str | Sequence[str] | None = None,
    threads: int | Sequence[int] = 1,
    preset: str = "quick",
    processes: int = MIN_PROCESSES,
    queries: int | None = None,
    seconds: float | None = None,
    sustained_s: float | None = None,
    cool_c: float | None = None,
    rest_s: float | None = None,
    patient_pattern: str | None = None,
    seed: int = 0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, float] | None = None,
    out: PathArgument = "reports",
    resume: bool = False,
    tell: Tell = arguments.print_line,
) -> Benchmark:
    """Measure model files: accuracy on the test split, latency, peak memory, size.

    Every measurement runs in a fresh process, so libraries imported by this process do not matter.

    Args:
        models: Model files, folders with model files, or names of bundled models; one or several.
        data: The data set, as for :func:`pneumo_edge.train`. Without one, the files are only timed, on phantom images.
            A file without a ModelSpec, from any tool, is always only timed, on random values.
        engines: Names of engines to measure on; by default those of ``litert``, ``tflite-runtime`` and ``onnxruntime``
            that are installed.
        threads: Threads for one inference, 1 to 256; with several numbers, each is measured.
        preset: Least calls and time of inference for each model: ``"rapid"``, ``"quick"`` or ``"normal"``.
        processes: Fresh processes, each of which times every model; fewer than 10 prove no claim.
        queries: Calls of each kind, instead of the preset's; fewer prove no claim.
        seconds: Seconds of inference, instead of the preset's; fewer prove no claim.
        sustained_s: Seconds, 10 to 86,400, for which each unit then runs alone, one inference after the other, to see
            whether it slows down. By default this is not measured.
        cool_c: Temperature in degrees Celsius that the processor cools to before each of these measurements, 0 to 150.
            By default 3 degrees above that at the start; 60 seconds of rest where no temperature is known.
        rest_s: Seconds of rest instead, 0 to 86,400.
        patient_pattern: As for :func:`pneumo_edge.evaluate`.
        seed: Seed of the order and of the choice of images.
        input_shapes: Shapes of inputs of any size, by name of the input (``""`` for the only one), for files without
            a ModelSpec.
        input_values: The value of every element of an input that takes no others, such as a sample rate, by name.
        out: Folder for ``results.json``, ``verdict.json``, ``report.md`` and, with the extra ``report``,
            ``report.html``.
        resume: Resume the interrupted benchmark in ``out``.
        tell: As for :func:`pneumo_edge.evaluate`.

    Returns:
        Results and verdict. A file or an engine that failed is in ``results.skipped``; the others are measured.

    Raises:
        ArgumentError: An engine or preset is unknown, a number is out of range, or ``out`` is a file.
        DataError: The data set has too few test images, or a model was trained on some of them.
        ResultsError: Nothing can be measured; a process crashed while all units were timed; or ``out`` has an
            interrupted benchmark and ``resume`` is False, or it began with other settings.
        BusyError: Another process writes the same files.
        MissingExtraError: The extra ``bench`` is not installed.

    Example:
        >>> measured = pneumo_edge.benchmark(files, "chest_xray", preset="rapid")
        >>> [(claim.property, claim.outcome) for claim in measured.verdict.claims]
        [('faster', 'supported'), ('smaller', 'supported'), ...]
    """
    chosen = [engines] if isinstance(engines, str) else list(engines or USUAL)
    numbers = list(threads) if isinstance(threads, Iterable) else [threads]
    if not numbers:
        raise ArgumentError("threads is empty", "at least one number", "Give one, or omit threads")
    numbers = [arguments.whole("threads", number, 1, cores.MOST) for number in numbers]
    settings = settle(chosen, preset, processes, queries, seconds, seed, sustained_s, cool_c, rest_s)
    given = Given(
        {name: tuple(shape) for name, shape in (input_shapes or {}).items()}, dict(input_values or {}), shared=True
    )
    folder = Path(out)
    outputs.check_folder(folder)
    files = arguments.model_paths(models)
    target = folder / "results.json"
    with jobs.alone(target, "benchmark", jobs.WITH_RESUME):
        measurements = Measurements(target, resume)
        measured = run(
            files,
            None if data is None else datasets.open_data(data, patient_pattern, files, tell=tell),
            settings,
            measurements,
            given=given,
            engines=chosen,
            threads=numbers,
            tell=lambda skipped: tell(describe_skipped(skipped)),
            warn=lambda text: tell(f"warning: {text}."),
            note=tell,
        )
        results.write(target, measured)
        measurements.forget()
    return report_on(measured, target)


def can_draw() -> bool:
    """Whether the libraries for the page with figures are installed."""
    return all(map(extras.is_installed, ("jinja2", "matplotlib")))


def settle(
    engines: Sequence[str],
    preset: str,
    processes: int,
    queries: int | None,
    seconds: float | None,
    seed: int,
    sustained_s: float | None,
    cool_c: float | None,
    rest_s: float | None,
) -> BenchmarkSettings:
    """How much is measured; arguments and errors as those of :func:`benchmark`."""
    for name in engines:
        arguments.check_name("engines", name, ENGINES)
    arguments.check_name("preset", preset, PRESETS)
    processes = arguments.whole("processes", processes, 1)
    queries = None if queries is None else arguments.whole("queries", queries, 1)
    seed = arguments.whole("seed", seed, 0)
    arguments.check_number("seconds", 0 if seconds is None else seconds, 0, MOST_SECONDS)
    sustained = _sustained(sustained_s, cool_c, rest_s)
    return BenchmarkSettings.of(
        preset, processes=processes, queries=queries, seconds=seconds, seed=seed, sustained=sustained
    )


def _sustained(seconds: float | None, cool_c: float | None, rest_s: float | None) -> SustainedSettings | None:
    for name, given, least, most in (
        ("sustained_s", seconds, MIN_SUSTAINED_SECONDS, MOST_SUSTAINED_SECONDS),
        ("cool_c", cool_c, 0, MOST_COOL_C),
        ("rest_s", rest_s, 0, MOST_SUSTAINED_SECONDS),
    ):
        if given is not None:
            arguments.check_number(name, given, least, most)
    if seconds is None and (cool_c is not None or rest_s is not None):
        raise ArgumentError(
            f"{'rest_s' if cool_c is None else 'cool_c'} is given without sustained_s",
            "sustained_s, the time for which each unit runs alone",
            "Give it as well, or neither",
        )
    if cool_c is not None and rest_s is not None:
        raise ArgumentError("cool_c and rest_s are both given", "one of them", "Leave out one")
    return None if seconds is None else SustainedSettings(float(seconds), cool_c, rest_s)


def report_on(measured: Results, target: Path) -> Benchmark:
    """Compute the verdict from the results, and write the report pages beside them.

    Args:
        measured: The raw results.
        target: Their file.
    """
    runs = gather([summarise(measured)])
    names = ["report.md", *(["report.html"] if can_draw() else [])]
    written = tuple(target.with_name(name) for name in names)
    for path in written:
        report.write(runs, path)
    settled = target.with_name(verdict_file.NAME)
    verdict_file.write(settled, verdict_file.of(runs[0].summary, runs[0].verdict, target, runs[0].networks))
    return Benchmark(measured, runs[0].summary, runs[0].verdict, target, settled, written)
