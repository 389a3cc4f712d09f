"""How to reproduce the report."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta

from pneumo_edge._util.document import Block, Cell, Code, Folded, Paragraph, Section, Table
from pneumo_edge.benchmarks import validity
from pneumo_edge.benchmarks.protocol import PRESETS
from pneumo_edge.benchmarks.report.runs import Run, Runs
from pneumo_edge.benchmarks.results import Results


def section(runs: Runs) -> Section:
    """The command, the machine, the versions."""
    blocks: list[Block] = []
    for run in runs:
        blocks.append(
            Paragraph(f"{f'Run {run.letter}. ' if run.letter else ''}Run this command.{_data(run.summary.results)}")
        )
        blocks.append(Code(_command(run)))
    blocks.append(Paragraph("The machine and the versions:"))
    blocks.append(_table(runs))
    if any(run.summary.results.machine.flags for run in runs):
        blocks.append(
            Folded(
                "Instruction sets of the processor",
                tuple(
                    Paragraph(f"{f'Run {run.letter}. ' if run.letter else ''}{flags}.")
                    for run in runs
                    if (flags := " ".join(run.summary.results.machine.flags))
                ),
            )
        )
    blocks.append(
        Paragraph(
            "The raw results are in results.json beside this report: every timed call, every probability by image "
            "name, and the SHA-256 of every file. Every number here is computed from them. To draw this report again:"
        )
    )
    names = ["results.json"] if len(runs) == 1 else [f"{run.letter}.json" for run in runs]
    blocks.append(Code(shlex.join(["pneumo-edge", "report", *names, "-o", "report.html"])))
    return Section("How to reproduce", tuple(blocks))


def _table(runs: Runs) -> Table:
    columns = [_describe(run.summary.results, run) for run in runs]
    return Table(
        ("", *(f"Run {run.letter}" if run.letter else "This run" for run in runs)),
        1 + len(runs),
        tuple(
            (Cell(name), *(Cell(column.get(name, "")) for column in columns))
            for name in dict.fromkeys(name for column in columns for name in column)
        ),
    )


def _describe(results: Results, run: Run) -> dict[str, str]:
    engines = {row.result.unit.engine: row.result.engine_version for row in run.summary.rows}
    device = {"Device": results.machine.device} if results.machine.device else {}
    return {
        **device,
        "Processor": results.machine.cpu,
        "Architecture": results.machine.architecture,
        "Cores": validity.describe_cores(results.machine).removesuffix(" cores").removesuffix(" core"),
        "Memory": f"{results.machine.memory_bytes / 2**30:.1f} GiB",
        "System": results.machine.system,
        "Python": results.machine.python,
        "Test images": _images(run),
        "Threads": ", ".join(map(str, sorted({row.result.unit.threads for row in run.summary.rows}))),
        "Measured": _measured(results),
        **results.versions,
        **engines,
    }


def _data(results: Results) -> str:
    test_set = results.test_set
    if test_set is None:
        return ""
    return (
        f" DATA is the data set ({test_set.title}; licence: {test_set.licence}). Its test images have the fingerprint "
        f"{test_set.fingerprint[:16]}."
    )


def _images(run: Run) -> str:
    summary = run.summary
    if summary.results.test_set is None:
        return "none: no data set was given, and accuracy was not measured"
    counts = ", ".join(f"{number} {name}" for name, number in summary.class_counts.items())
    return f"{sum(summary.class_counts.values())} ({counts}) of {summary.results.test_set.title}"


def _measured(results: Results) -> str:
    started = datetime.fromisoformat(results.started).astimezone(UTC)
    return f"{started:%Y-%m-%d %H:%M} UTC, in {timedelta(seconds=round(results.duration_s))}"


def _command(run: Run) -> str:
    results, settings = run.summary.results, run.summary.results.settings
    units = [row.result.unit for row in run.summary.rows]
    command = ["pneumo-edge", "benchmark", *(model.file for model in results.models)]
    command += ["--data", "DATA"] if results.test_set else []
    for engine in dict.fromkeys(unit.engine for unit in units):
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
    command += settings.sustained.options if settings.sustained else []
    return shlex.join([*command, "--seed", str(settings.seed)])
