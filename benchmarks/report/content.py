"""What the report says, before it is Markdown or HTML."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Literal

from benchmarks.measures.latency import Latency
from benchmarks.summary import Row, Spread, Summary
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
    test_set, machine = summary.results.test_set, summary.results.machine
    started = datetime.fromisoformat(summary.results.started).astimezone(UTC)
    units, models = len(summary.rows), len(summary.results.models)
    counts = ", ".join(f"{count} {name}" for name, count in summary.class_counts.items())
    sections = [
        _overview(summary),
        _ratios(summary),
        _latency(summary),
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
                Cell(f"{row.memory_bytes / _MEBI:.1f}"),
            )
            for row in summary.rows
        ),
        group=_ENGINE,
    )


def backbone_title(backbone: str) -> str:
    """A backbone's name as its authors write it."""
    return _TITLES.get(backbone, backbone)


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


def _latency(summary: Summary) -> Section:
    settings = summary.results.settings
    images = min(settings.images, sum(summary.class_counts.values()))
    return Section(
        "Latency",
        (
            f"{_count(settings.processes, 'fresh process', 'es')}; in each, every unit is loaded, warmed up with "
            f"{_count(settings.warmups, 'call')} of each kind, and timed in {_count(settings.rounds, 'round')}, in an "
            "order that is drawn anew for every round. A call too slow for a turn in each round gets fewer, evenly "
            f"spread, so as to take about {settings.turn_seconds:g} s of a process. All units see the same {images} "
            "test images. No sample is left out.",
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
                "CPU ms",
                "File to verdict ms",
                "CPU ms",
            ),
            3,
            tuple(
                (
                    *_unit_cells(row),
                    Cell(str(row.inference.calls)),
                    _median_p90(row.inference),
                    _cpu(row.inference),
                    _median_p90(row.file_to_verdict),
                    _cpu(row.file_to_verdict),
                )
                for row in summary.rows
            ),
            group=_ENGINE,
        ),
        (
            "Inference is the engine on a ready tensor; file to verdict is everything from the path of an image file "
            "(in the page cache) to the label. CPU time is the median over processes of each process's median, with "
            "the least and the greatest; where wall time is well above it, the machine was busy with something else.",
        ),
    )


def _ratios(summary: Summary) -> Section | None:
    if not summary.ratios:
        return None
    pairs = sorted({(ratio.numerator, ratio.denominator) for ratio in summary.ratios})
    names = " and ".join(f"{backbone_title(a)} / {backbone_title(b)}" for a, b in pairs)
    return Section(
        f"Backbone against backbone: {names}",
        (
            "How many times as long the first takes as the second, in CPU time, which other jobs on the machine "
            "disturb less than wall time. The ratio is taken within each process, where both ran side by side; shown "
            "is the median over processes, and the least and the greatest of them. This describes one run; a claim "
            "that one backbone is faster takes more processes and an interval.",
        ),
        table=Table(
            ("Backbones", "Format", "Engine", "Inference", "File to verdict"),
            3,
            tuple(
                (
                    Cell(f"{backbone_title(ratio.numerator)} / {backbone_title(ratio.denominator)}"),
                    Cell(ratio.format),
                    Cell(_engine(ratio.engine, ratio.threads)),
                    _spread(ratio.inference),
                    _spread(ratio.file_to_verdict),
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
    options = {"threads": units[0].threads, "processes": settings.processes, "rounds": settings.rounds}
    for option, value in {**options, "seed": settings.seed}.items():
        command += [f"--{option}", str(value)]
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
            "Model files are read from the page cache. Time to load a file, energy and heat are not measured.",
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
    return _spread(Spread(median(medians), min(medians), max(medians)))


def _spread(spread: Spread) -> Cell:
    return Cell(f"{spread.median:.2f}", f"({spread.low:.2f} to {spread.high:.2f})")


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural * (number != 1)}"
