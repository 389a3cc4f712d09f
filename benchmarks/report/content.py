"""What the report says, before it is Markdown or HTML."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isinf
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks import statistics, validity, verdict
from benchmarks.comparison import Compared
from benchmarks.measures.latency import Latency
from benchmarks.protocol import PRESETS
from benchmarks.results import Conditions
from benchmarks.summary import Row, Summary
from benchmarks.verdict import Claim, Verdict
from pneumo_edge.evaluation.metrics import Interval

_TITLES = {"mobilenetv2": "MobileNetV2", "efficientnetb0": "EfficientNetB0"}
_MEBI = 2**20
#: Column of the engine in the tables of units.
_ENGINE = 2


@dataclass(frozen=True)
class Cell:
    """A table cell: the value, and a lesser remark such as its interval."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Table:
    """A table; the first ``labels`` columns are words, the others numbers.

    Rows that have the same in column ``group`` belong together.
    """

    columns: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Cell, ...], ...]
    group: int | None = None


@dataclass(frozen=True)
class Figure:
    """A figure by its name, and what it shows."""

    name: Literal["tradeoff", "latency"]
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the report, in the order of its fields; what is empty is left out."""

    title: str
    paragraphs: tuple[str, ...] = ()
    figure: Figure | None = None
    table: Table | None = None
    notes: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Report:
    """The whole report. ``warnings`` are (title, text), to be shown before anything else."""

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def compose(summary: Summary) -> Report:
    """Write the report."""
    decided = verdict.decide(summary)
    test_set, machine = summary.results.test_set, summary.results.machine
    started = datetime.fromisoformat(summary.results.started).astimezone(UTC)
    units, models = len(summary.rows), len(summary.results.models)
    counts = ", ".join(f"{count} {name}" for name, count in summary.class_counts.items())
    sections = [
        _verdict(summary, decided),
        _overview(summary),
        _ratios(summary),
        _latency(summary),
        _noise(summary),
        _stages(summary),
        _models(summary),
        _left_out(summary),
        _reproduce(summary),
        _limits(summary),
    ]
    return Report(
        title=f"Chest X-ray classifiers on {machine.cpu}",
        lead=f"{_count(models, 'model file')} measured as {_count(units, 'unit')} (a file on an engine): accuracy, "
        "latency, memory and size, one image at a time.",
        facts=(
            ("Processor", f"{machine.cpu}, {_count(machine.cores, 'core')}, {machine.architecture}"),
            ("Memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
            ("System", f"{machine.system}, {machine.python}"),
            ("Test images", f"{sum(summary.class_counts.values())} ({counts}) of {test_set.title}"),
            ("Threads", ", ".join(str(n) for n in sorted({row.result.unit.threads for row in summary.rows}))),
            ("Measured", f"{started:%Y-%m-%d %H:%M} UTC, in {timedelta(seconds=round(summary.results.duration_s))}"),
        ),
        warnings=_warnings(summary),
        sections=tuple(section for section in sections if section),
    )


def main_table(summary: Summary) -> Table:
    """One row for each unit: what it is, what it weighs, how well it judges, how long it takes."""
    return Table(
        (
            "Backbone",
            "Format",
            "Engine",
            "Size MiB",
            "AUC",
            "Accuracy",
            "Sensitivity",
            "Specificity",
            "Inference ms",
            "File to verdict ms",
            "Peak memory MiB",
        ),
        3,
        tuple(
            (
                *_unit_cells(row),
                Cell(f"{row.model.size_bytes / _MEBI:.2f}"),
                _interval(row.accuracy.auc),
                _interval(row.accuracy.confusion.accuracy),
                _interval(row.accuracy.confusion.sensitivity),
                _interval(row.accuracy.confusion.specificity),
                _median_p90(row.inference),
                _median_p90(row.file_to_verdict),
                Cell(f"{row.peak_bytes / _MEBI:.1f}"),
            )
            for row in summary.rows
        ),
        group=_ENGINE,
    )


def backbone_title(backbone: str) -> str:
    """A backbone's name as its authors write it."""
    return _TITLES.get(backbone, backbone)


def comparison_table(compared: Iterable[Compared]) -> Table:
    """One row for each unit that two runs have in common: ratios of the second to the first."""
    return Table(
        ("Backbone", "Format", "Engine", "Inference", "File to verdict", "Memory", "AUC", "Found"),
        3,
        tuple(
            (
                *_unit_cells(each.after),
                *(
                    _ratio(each.ratios[name]) if name in each.ratios else Cell("not known")
                    for name in ("inference", "file to verdict", "memory")
                ),
                Cell(f"{each.before.accuracy.auc.value:.3f} to {each.after.accuracy.auc.value:.3f}"),
                Cell(
                    f"worse in {', '.join(each.regressions)}" if each.regressions else "no regression",
                    "" if each.same_file else "another file",
                ),
            )
            for each in compared
        ),
        group=_ENGINE,
    )


def unit_title(row: Row) -> str:
    """A unit in a few words, for figures."""
    backbone, file_format, engine = _unit_cells(row)
    return f"{backbone} {file_format}, {engine}"


def _warnings(summary: Summary) -> tuple[tuple[str, str], ...]:
    warnings = []
    if summary.phantom:
        warnings.append(
            (
                "Phantom images: not real X-rays. The accuracies below mean nothing.",
                "This run shows that the road works, and how long it takes on this machine; of pneumonia it says "
                f"nothing: {'; '.join(summary.phantom)}.",
            )
        )
    if summary.random_weights:
        warnings.append(
            (
                "Random initial weights. The accuracies below say nothing about the backbones.",
                f"{len(summary.random_weights)} of {_count(len(summary.results.models), 'model file')} had no "
                "pretrained weights to start from.",
            )
        )
    return tuple(warnings)


def _overview(summary: Summary) -> Section:
    commoner = max(summary.class_counts, key=summary.class_counts.__getitem__)
    return Section(
        "Accuracy, latency and size",
        (
            f"Calling every test image {commoner} would be right for {summary.majority_share:.1%}: read each accuracy "
            "beside that. File size, brightness and contrast alone tell the classes apart better than chance in "
            "public X-ray sets; `pneumo-edge data audit` says how well in this one.",
        ),
        Figure(
            "tradeoff",
            "AUC with its 95 % interval against the median time of one inference (logarithmic). A dot's area is the "
            "size of the model file, its colour the backbone, its shape the format.",
        ),
        main_table(summary),
        (
            "Brackets hold 95 % intervals: DeLong's for the AUC, Wilson's for the others, which are at the decision "
            "threshold that each file carries. Latency is the median of wall time, with its 90th percentile. Peak "
            "memory is what loading the file and judging images adds to a process that has imported its libraries.",
        ),
    )


def _verdict(summary: Summary, decided: Verdict) -> Section:
    pareto = [
        f"On the Pareto front: {unit_title(row)}, with AUC {row.accuracy.auc.value:.3f}, "
        f"{row.inference.median_ms:.2f} ms, {row.model.size_bytes / _MEBI:.2f} MiB in the file and "
        f"{row.peak_bytes / _MEBI:.1f} MiB in memory."
        for row in decided.pareto
    ]
    reasons: dict[str, list[str]] = {}
    for row, why in decided.unranked:
        reasons.setdefault(why, []).append(unit_title(row))
    unranked = [f"Cannot rank: {'; '.join(names)}. Reason: {why}." for why, names in reasons.items()]
    return Section(
        "Verdict",
        (
            "Each claim with its evidence. It is supported or refuted only where the evidence leaves no doubt at 95 %, "
            "each claim for itself, and else not separable, which does not mean equal.",
            "A unit is on the Pareto front where no other is at least as good in AUC, time of inference, file size and "
            "peak memory together, and better in one.",
        ),
        table=verdict_table(decided) if decided.claims else None,
        notes=(
            "Faster: the interval of the ratio of CPU time lies outside the band of "
            f"{statistics.LEAST_DIFFERENCE:.0%}, or of what a file against itself showed in this run where that is "
            "more. As accurate: the interval of the difference in AUC ends less than "
            f"{verdict.ACCURACY_MARGIN:g} below zero. A file whose AUC is under {verdict.GATE_SHARE:.0%} of its fp32 "
            "file's fails its accuracy gate and cannot win or rank; nor can one "
            "that was timed less than the preset asks for win by its times.",
        )
        + (() if summary.accuracy_counts else ("Accuracy is not judged, for the reason at the top.",)),
        bullets=(*pareto, *unranked),
    )


def verdict_table(decided: Verdict) -> Table:
    """One row for each claim."""
    return Table(
        ("Claim", "Outcome", "Format", "Engine", "Evidence"),
        5,
        tuple(
            (
                Cell(_claim(claim)),
                Cell(claim.outcome),
                Cell(claim.subject.model.format),
                Cell(_engine(claim.engine, claim.threads) if claim.engine else Path(claim.subject.model.file).suffix),
                Cell(claim.evidence),
            )
            for claim in decided.claims
        ),
        group=0,
    )


def _claim(claim: Claim) -> str:
    subject, other = (backbone_title(row.model.backbone) for row in (claim.subject, claim.other))
    verb = "" if claim.property == "keeps more AUC when quantized" else "is "
    return f"{subject} {verb}{claim.property} {'as' if claim.property.endswith('accurate') else 'than'} {other}"


def _latency(summary: Summary) -> Section:
    settings = summary.results.settings
    images = min(settings.images, sum(summary.class_counts.values()))
    return Section(
        "Latency",
        (
            f"{_count(settings.processes, 'fresh process', 'es')}; in each, the units of one engine and number of "
            "threads are loaded, warmed up, and timed in rounds, in an order that is drawn anew for every round. Over "
            f"all processes a unit makes at least {_count(settings.queries, 'call')} of each kind and spends "
            f"{settings.seconds:g} s in inference; one too slow for that stops after {settings.most_seconds:g} s. All "
            f"units see the same {images} test images. No sample is left out.",
        ),
        Figure(
            "latency",
            "Every timed call, as a histogram of wall time for each unit (logarithmic). The line marks the median, the "
            "dot the 90th percentile.",
        ),
        Table(
            (
                "Backbone",
                "Format",
                "Engine",
                "Calls",
                "Inference ms",
                "p90 bound",
                "p99",
                "Outliers",
                "CPU ms",
                "File to verdict ms",
                "CPU ms",
                "Load ms",
                "First ms",
            ),
            3,
            tuple(
                (
                    *_unit_cells(row),
                    Cell(str(row.inference.calls)),
                    _median_p90(row.inference),
                    Cell("" if row.inference.p90_bound_ms is None else f"{row.inference.p90_bound_ms:.2f}"),
                    Cell(f"{row.inference.p99_ms:.2f}"),
                    Cell(str(row.inference.outliers)),
                    _cpu(row.inference),
                    _median_p90(row.file_to_verdict),
                    _cpu(row.file_to_verdict),
                    Cell(f"{row.load_ms:.1f}"),
                    Cell(f"{row.first_inference_ms:.1f}"),
                )
                for row in summary.rows
            ),
            group=_ENGINE,
        ),
        (
            "Inference is the engine on a ready tensor; file to verdict is everything from the path of an image file "
            "(in the page cache) to the label. The bound on the 90th percentile is MLPerf's early stopping, with 99 % "
            "confidence; it takes 64 calls. Outliers lie more than ten median absolute deviations above the median, "
            "and count like all others. CPU time is the median over processes of each process's median, with the "
            "least and the greatest; where wall time is well above it, the machine was busy with something else. Load "
            "and first inference are medians over processes, with the file in the page cache and the engine's library "
            "imported.",
        ),
    )


def _noise(summary: Summary) -> Section:
    switches = f"{validity.MOST_SWITCHES_PER_SECOND} times a second"
    return Section(
        "Noise on this machine",
        (
            "The A/A unit of each engine is its fastest file, loaded once more and timed beside itself. Its true ratio "
            "is 1; what its interval shows is the noise that a claim has to rise above.",
        ),
        table=Table(
            ("Engine", "File", "Inference", "File to verdict", "Found"),
            2,
            tuple(
                (
                    Cell(_engine(test.engine, test.threads)),
                    Cell(test.model),
                    _ratio(test.inference),
                    _ratio(test.file_to_verdict),
                    Cell("no difference" if test.passed else "a difference where there is none"),
                )
                for test in summary.null_tests
            ),
        ),
        notes=(
            f"{len(summary.disturbed)} of {_count(len(summary.results.conditions), 'process', 'es')} were disturbed; "
            "their samples count all the same. A process is called disturbed where its host took more than "
            f"{validity.MOST_STEAL_SHARE:.0%} of the processor time, where it lost its core more than {switches}, "
            f"where wall time is more than {validity.MOST_WALL_OVER_CPU:g} times CPU time at one thread, where the "
            "load average is above the number of cores, or where a frequency governor is at work.",
        ),
        bullets=tuple(f"{_process(each.conditions)}: {', '.join(each.by)}." for each in summary.disturbed),
    )


def _process(conditions: Conditions) -> str:
    return f"Process {conditions.process + 1} of {_engine(conditions.engine, conditions.threads)}"


def _ratios(summary: Summary) -> Section | None:
    if not summary.ratios:
        return None
    return Section(
        "Backbone against backbone",
        (
            "How many times as long the first takes as the second, in CPU time, which other jobs on the machine "
            "disturb less than wall time. The ratio is taken within each process, where both ran side by side; shown "
            "is the geometric mean over processes, with Student's 95 % interval, in which a process counts as one.",
        ),
        table=Table(
            ("Backbones", "Format", "Engine", "Inference", "File to verdict"),
            3,
            tuple(
                (
                    Cell(
                        f"{backbone_title(ratio.numerator.model.backbone)} / "
                        f"{backbone_title(ratio.denominator.model.backbone)}"
                    ),
                    *_unit_cells(ratio.numerator)[1:],
                    _ratio(ratio.inference),
                    _ratio(ratio.file_to_verdict),
                )
                for ratio in summary.ratios
            ),
            group=_ENGINE,
        ),
    )


def _stages(summary: Summary) -> Section:
    stages = tuple(summary.rows[0].stages_ms)
    return Section(
        "Where the time goes",
        ("Median wall time of each stage from file to verdict, in milliseconds.",),
        table=Table(
            ("Backbone", "Format", "Engine", *(stage.capitalize() for stage in stages)),
            3,
            tuple(
                (*_unit_cells(row), *(Cell(f"{row.stages_ms[stage]:.2f}") for stage in stages)) for row in summary.rows
            ),
            group=_ENGINE,
        ),
    )


def _models(summary: Summary) -> Section:
    return Section(
        "Model files",
        ("What each file says of itself. The SHA-256 is cut here, and whole in the raw results.",),
        table=Table(
            ("File", "SHA-256", "Trained on", "Recipe", "Initial weights", "Threshold", "Bytes"),
            5,
            tuple(
                (
                    Cell(model.file),
                    Cell(model.sha256[:12]),
                    Cell(model.trained_on),
                    Cell(model.recipe),
                    Cell(model.initial_weights),
                    Cell(f"{model.threshold:.3f}"),
                    Cell(f"{model.size_bytes:,}"),
                )
                for model in summary.results.models
            ),
        ),
    )


def _left_out(summary: Summary) -> Section | None:
    skipped = [
        f"{skip.model}{f' on {skip.engine}' * bool(skip.engine)}: {skip.reason}" for skip in summary.results.skipped
    ]
    images = [f"{name}: {reason}" for name, reason in summary.results.test_set.left_out.items()]
    if not skipped and not images:
        return None
    return Section(
        "Not measured",
        (f"{_count(len(skipped), 'unit')} and {_count(len(images), 'test image')} were left out, for these reasons.",),
        bullets=(*skipped, *images),
    )


def _reproduce(summary: Summary) -> Section:
    results, settings = summary.results, summary.results.settings
    units = [row.result.unit for row in summary.rows]
    engines = {row.result.unit.engine: row.result.engine_version for row in summary.rows}
    versions = ", ".join(f"{name} {version}" for name, version in {**results.versions, **engines}.items())
    command = ["pneumo-edge", "benchmark", *(model.file for model in results.models), "--data", "DATA"]
    for engine in engines:
        command += ["--engine", engine]
    for threads in sorted({unit.threads for unit in units}):
        command += ["--threads", str(threads)]
    command += ["--preset", settings.preset, "--processes", str(settings.processes)]
    preset = PRESETS[settings.preset]
    for option, value, default in (
        ("queries", settings.queries, preset.queries),
        ("seconds", settings.seconds, preset.seconds),
    ):
        command += [f"--{option}", f"{value:g}"] if value != default else []
    command += ["--seed", str(settings.seed)]
    return Section(
        "How to reproduce",
        (
            f"DATA is the data set ({results.test_set.title}; licence: {results.test_set.licence}). Its test images "
            f"have the fingerprint {results.test_set.fingerprint[:16]}. Versions: {versions}. The raw results lie "
            "beside this report as results.json: every timed call, every probability by image name, and the SHA-256 "
            "of every file; each number here can be computed from them.",
        ),
        code=shlex.join(command),
    )


def _limits(summary: Summary) -> Section:
    images = sum(summary.class_counts.values())
    return Section(
        "Limits",
        bullets=(
            "Research software; not a medical device. No number here says how well a model judges patients.",
            f"{images} test images of one source: two models whose intervals overlap may still differ, and accuracy "
            "elsewhere, on other patients, devices and ages, can be far lower.",
            "Latency belongs to this machine on this day. On a shared machine wall time also measures its "
            "neighbours; compare units of one report with each other rather than with another report.",
            "Units take turns, so a call finds the caches as another unit left them; a device that runs one model "
            "over and over can be a little faster.",
            "Model files are read from the page cache. Energy and heat are not measured.",
        ),
    )


def _unit_cells(row: Row) -> tuple[Cell, Cell, Cell]:
    unit = row.result.unit
    return Cell(backbone_title(row.model.backbone)), Cell(row.model.format), Cell(_engine(unit.engine, unit.threads))


def _engine(engine: str, threads: int) -> str:
    return f"{engine}, {threads} threads" if threads > 1 else engine


def _interval(interval: Interval) -> Cell:
    return Cell(f"{interval.value:.3f}", f"[{interval.low:.3f}, {interval.high:.3f}]")


def _median_p90(latency: Latency) -> Cell:
    return Cell(f"{latency.median_ms:.2f}", f"p90 {latency.p90_ms:.2f}")


def _cpu(latency: Latency) -> Cell:
    medians = latency.cpu_medians_ms
    return Cell(f"{median(medians):.2f}", f"({min(medians):.2f} to {max(medians):.2f})")


def _ratio(ratio: Interval) -> Cell:
    if isinf(ratio.high):
        return Cell(f"{ratio.value:.2f}", "no interval from one process")
    return Cell(f"{ratio.value:.2f}", f"[{ratio.low:.2f}, {ratio.high:.2f}]")


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural * (number != 1)}"
