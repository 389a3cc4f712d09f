"""``pneumo-edge choose``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli import options, screen
from pneumo_edge.errors import ExitCode

if TYPE_CHECKING:
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.benchmarks.choice import Choice
    from pneumo_edge.benchmarks.float_baseline import FloatComparison
    from pneumo_edge.benchmarks.results import Results
    from pneumo_edge.benchmarks.summary import Row

#: Columns that a narrow terminal can do without, the first first.
_LEAST = ("Memory MB", "Specificity", "Sensitivity", "Size MB")


def choose(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS.json...", help="Raw results that `benchmark` wrote; of several devices with --device."
        ),
    ],
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Choose for this device, of the results of several.")
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="Longest end-to-end time (p90), such as 10ms.",
        ),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(parser=options.quantity(options.SIZES), metavar="SIZE", help="Largest file, such as 3MB or 3MiB."),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(
            parser=options.quantity(options.SIZES),
            metavar="SIZE",
            help="Highest peak memory above the process's imports, such as 20MB.",
        ),
    ] = None,
    min_sensitivity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest sensitivity on the test images, such as 0.95.")
    ] = None,
    min_specificity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest specificity on the test images, such as 0.9.")
    ] = None,
) -> None:
    """Choose the model file that fits a device's budget.

    Of the files that fit, it chooses the fastest whose AUC is not
    significantly below the highest. Every other file is printed with the
    limits that rule it out. The exit code is 3 if no file fits.
    """
    from pneumo_edge.benchmarks import choice, float_baseline
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks.summary import summarise

    limits = choice.Limits(max_latency, max_size, max_memory, min_sensitivity, min_specificity)
    summary = summarise(_of_device([(path, raw.read(path)) for path in results], device))
    chosen = choice.choose(summary, limits)
    if summary.phantom:
        screen.show(options.PHANTOM_METRICS, "bad", error=True)
    if summary.shortage:
        typer.echo(f"warning: {summary.shortage}", err=True)
    if max_latency is not None and chosen.best and not chosen.best.file_to_verdict:
        why = "end to end was not measured, so --max-latency is compared with inference alone"
        typer.echo(f"warning: {chosen.best.model.file}: {why}", err=True)
    beside = float_baseline.compare_with_float(summary)
    if chosen.best:
        row = chosen.best
        screen.show(
            f"{row.result.unit.name}: {_accuracy(row)}, {_time(row)}, "
            f"file {row.model.size_bytes / 1e6:.2f} MB, {_memory(row)}{_warning(row, beside)}",
            "good",
        )
    if chosen.others:
        typer.echo("\nAlso fits:")
        screen.show_table(_fitting(chosen, beside), _LEAST)
        typer.echo()
    for name, reasons in _ruled_out(chosen):
        typer.echo(f"ruled out: {name}: {reasons}")
    if not chosen.best:
        typer.echo("error: no file fits; relax a limit, or measure other files", err=True)
        raise typer.Exit(ExitCode.FAILED)


def _of_device(found: Sequence[tuple[Path, Results]], device: str | None) -> Results:
    """The results of the device; without one, the only ones."""
    named = [results for _, results in found if device in (None, results.machine.device)]
    if len(named) == 1:
        return named[0]
    devices = ", ".join(f"{path} ({results.machine.device or 'this machine'})" for path, results in found)
    if device is None:
        raise typer.BadParameter(f"name one of the devices of {devices}", param_hint="--device")
    raise typer.BadParameter(f"{len(named)} of these results are of {device!r}: {devices}", param_hint="--device")


def _fitting(chosen: Choice, beside: dict[int, FloatComparison]) -> Table:
    """The other files that fit, a row each."""
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.benchmarks.report import cells

    auc, _, sensitivity, specificity = cells.qualities(chosen.others)
    return Table(
        ("File", "Engine", auc, sensitivity, specificity, "End to end ms", "Size MB", "Memory MB", "Remark"),
        2,
        tuple(
            (
                *_unit(row),
                *_qualities(row),
                cells.median_p90(row.file_to_verdict or row.inference),
                cells.number(row.model.size_bytes / 1e6),
                Cell("") if row.peak_bytes is None else cells.number(row.peak_bytes / 1e6, 1),
                _remark(row, chosen, beside),
            )
            for row in chosen.others
        ),
    )


def _qualities(row: Row) -> tuple[Cell, Cell, Cell]:
    from pneumo_edge.benchmarks.report import cells

    auc, _, sensitivity, specificity = cells.quality_cells(row)
    return auc, sensitivity, specificity


def _ruled_out(chosen: Choice) -> Iterator[tuple[str, str]]:
    """What does not fit and why; a file once, where its units have the same reasons."""
    units: dict[tuple[str, str], list[str]] = {}
    for row, reasons in chosen.ruled_out:
        units.setdefault((row.model.file, "; ".join(reasons)), []).append(row.result.unit.name)
    for (file, why), names in units.items():
        yield (names[0] if len(names) == 1 else f"{file}, {len(names)} units"), why


def _unit(row: Row) -> tuple[Cell, Cell]:
    from pneumo_edge._util.document import Cell
    from pneumo_edge.benchmarks.report.runs import engine_title

    unit = row.result.unit
    return Cell(unit.model), Cell(engine_title(unit.engine, unit.threads))


def _remark(row: Row, chosen: Choice, beside: dict[int, FloatComparison]) -> Cell:
    """What speaks against a file that fits."""
    from pneumo_edge._util.document import Cell

    remarks = ["significantly less accurate"] if any(row is each for each in chosen.less_accurate) else []
    if chosen.best and chosen.best.accuracy and not row.accuracy:
        remarks.append("accuracy not measured")
    if chosen.best and chosen.best.file_to_verdict and not row.file_to_verdict:
        remarks.append("time of inference alone")
    found = beside.get(id(row))
    if found and found.slow:
        why = f" ({found.briefly})" if found.briefly else ""
        remarks.append(f"{found.times:.1f} times fp32's time{why}")
    return Cell("; ".join(remarks), tone="open")


def _warning(row: Row, beside: dict[int, FloatComparison]) -> str:
    """What a slow file's delegate did not take, behind everything else."""
    return f"; {beside[id(row)].warning}" if id(row) in beside and beside[id(row)].slow else ""


def _memory(row: Row) -> str:
    return "memory not measured" if row.peak_bytes is None else f"memory {row.peak_bytes / 1e6:.1f} MB"


def _accuracy(row: Row) -> str:
    if row.accuracy is None:
        return "accuracy not measured"
    confusion = row.accuracy.confusion
    # Of more than two classes each is the mean over them.
    auc, mean = ("AUC", "") if row.model.threshold is not None else ("macro AUC", "mean ")
    sensitivity, specificity = confusion.sensitivity, confusion.specificity
    return f"{auc} {row.accuracy.auc}, {mean}sensitivity {sensitivity}, {mean}specificity {specificity}"


def _time(row: Row) -> str:
    latency = row.file_to_verdict or row.inference
    what = "end to end" if row.file_to_verdict else "inference alone"
    return f"{what} {latency.median_ms:.2f} ms (p90 {latency.p90_ms:.2f})"
