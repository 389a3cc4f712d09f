"""The costs of a file other than time: throughput, energy, and the disk space of its engine."""

from __future__ import annotations

from collections.abc import Iterator

from pneumo_edge._util.document import Block, Cell, Paragraph, Points, Section, Table
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, engine_title
from pneumo_edge.benchmarks.supplement.records import EnergySample, Supplement


def throughput(runs: Runs) -> Section | None:
    """Inferences per second over threads and processes."""
    samples = [(run, sample) for run, found in _supplements(runs) for sample in found.throughput]
    if not samples:
        return None
    pairs = sorted({(sample.processes, sample.unit.threads) for _, sample in samples})
    rows = []
    for run in runs:
        models = {model.file: model for model in run.summary.results.models}
        of_run = [sample for each, sample in samples if each is run]
        for file, engine in dict.fromkeys((row.model.file, row.result.unit.engine) for row in run.summary.rows):
            rates = {
                (sample.processes, sample.unit.threads): sample.per_s
                for sample in of_run
                if (sample.unit.model, sample.unit.engine) == (file, engine)
            }
            if not rates:
                continue
            rows.append(
                (
                    *_file_cells(models[file].backbone, models[file].format, engine, run),
                    *(cells.number(rates[pair], 1) if pair in rates else Cell("not measured") for pair in pairs),
                    cells.number(max(rates.values()) / rates[1, 1]) if (1, 1) in rates else Cell("not measured"),
                )
            )
    labels = cells.unit_columns(runs)
    return Section(
        "Throughput",
        (
            Paragraph(
                "Inferences per second without pauses: one process with more threads, or more processes with one "
                "thread each, up to the number of cores of this machine."
            ),
            Table(
                (*labels, *(_pair(*pair) for pair in pairs), "Best over one"),
                len(labels),
                tuple(rows),
                group=cells.ENGINE,
            ),
        ),
    )


def energy(runs: Runs) -> Section | None:
    """Energy of an inference, or why it was not measured."""
    samples = [(run, sample) for run, found in _supplements(runs) for sample in found.energy]
    missing = tuple(dict.fromkeys(_missing(runs, "energy")))
    if not samples and not missing:
        return None
    blocks: list[Block] = []
    if samples:
        labels = cells.unit_columns(runs)
        blocks += [
            Table(
                (*labels, "mJ per inference", "mJ above idle", "Watts", "Idle watts"),
                len(labels),
                tuple((*_sample_cells(run, sample), *_joules(sample)) for run, sample in samples),
                group=cells.ENGINE,
            ),
            Paragraph(
                "The energy of all packages of the processor (RAPL) during inference, divided by the number of "
                "inferences. Above idle: minus the energy of the same time without work. Memory, disk and losses of "
                "the power supply are not included; other processes are.",
                minor=True,
            ),
        ]
    if missing:
        blocks.append(Points(tuple(f"Energy is not available: {text}." for text in missing)))
    return Section("Energy", tuple(blocks))


def installation(runs: Runs) -> Section | None:
    """Disk space of each engine."""
    found = [(run, each) for run, supplement in _supplements(runs) for each in supplement.installations]
    if not found:
        return None
    labels = ("Engine", *cells.run_columns(runs), "Distribution", "Requires")
    return Section(
        "Disk space of the engines",
        (
            Table(
                (*labels, "Own MB", "Requirements MB", "Total MB"),
                len(labels),
                tuple(
                    (
                        Cell(each.engine),
                        *cells.letter(run),
                        Cell(f"{each.distribution} {each.version}"),
                        Cell(", ".join(f"{name} {size / 1e6:.1f}" for name, size in each.needs.items()) or "nothing"),
                        cells.number(each.size_bytes / 1e6, 1),
                        cells.number(sum(each.needs.values()) / 1e6, 1),
                        cells.number((each.size_bytes + sum(each.needs.values())) / 1e6, 1),
                    )
                    for run, each in found
                ),
            ),
            Paragraph(
                "Files in the installer's records of this environment. pneumo-edge, Pillow and Python are not "
                "included. numpy, which every engine requires, is included in each total.",
                minor=True,
            ),
        ),
    )


def not_available(runs: Runs) -> Section | None:
    """Other measures that were not available, with the reasons."""
    texts = tuple(
        f"{each.measure} of {each.subject}{f' in run {run.letter}' * bool(run.letter)}: {each.reason}"
        for run, supplement in _supplements(runs)
        for each in supplement.unavailable
        if each.measure != "energy"
    )
    return Section("Not available on this machine", (Points(texts),)) if texts else None


def _supplements(runs: Runs) -> Iterator[tuple[Run, Supplement]]:
    return ((run, run.summary.results.supplement) for run in runs if run.summary.results.supplement)


def _missing(runs: Runs, measure: str) -> Iterator[str]:
    for run, supplement in _supplements(runs):
        for each in supplement.unavailable:
            if each.measure == measure:
                yield f"{f'in run {run.letter}, ' * bool(run.letter)}{each.reason}"


def _pair(processes: int, threads: int) -> str:
    if (processes, threads) == (1, 1):
        return "1 thread"
    return f"{threads} threads" if processes == 1 else f"{processes} processes"


def _sample_cells(run: Run, sample: EnergySample) -> tuple[Cell, ...]:
    model = next(model for model in run.summary.results.models if model.file == sample.unit.model)
    return _file_cells(model.backbone, model.format, engine_title(sample.unit.engine, sample.unit.threads), run)


def _file_cells(backbone: str, file_format: str, engine: str, run: Run) -> tuple[Cell, ...]:
    return (Cell(backbone_title(backbone)), Cell(file_format), Cell(engine), *cells.letter(run))


def _joules(sample: EnergySample) -> Iterator[Cell]:
    watts, idle = sample.joules / sample.seconds, sample.idle_joules / sample.idle_seconds
    each = 1e3 * sample.joules / sample.inferences
    yield cells.number(each)
    yield cells.number(each - 1e3 * idle * sample.seconds / sample.inferences)
    yield cells.number(watts, 1)
    yield cells.number(idle, 1)
