"""``pneumo-edge benchmark``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pneumo_edge._util import cores
from pneumo_edge.benchmarks.protocol import (
    COOL_MARGIN_C,
    MIN_PROCESSES,
    MIN_SUSTAINED_SECONDS,
    MOST_COOL_C,
    MOST_SUSTAINED_SECONDS,
    PRESETS,
    REST_SECONDS,
)
from pneumo_edge.benchmarks.remote import fleet
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ExitCode, PneumoEdgeError
from pneumo_edge.runtime.engines import ENGINES, USUAL

if TYPE_CHECKING:
    from pneumo_edge.api.benchmark import Benchmark
    from pneumo_edge.benchmarks.protocol import BenchmarkSettings
    from pneumo_edge.benchmarks.remote.fleet import Device
    from pneumo_edge.benchmarks.report.runs import Runs
    from pneumo_edge.data.datasource import DataSource

#: Where help lists the options of other machines.
_PANEL = "Measure on another machine"


def _check_engines(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        if name not in ENGINES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ENGINES)}")
    return names or None


#: Units of a long time, in seconds.
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_parse_time = options.quantity(_UNITS)


def _sustained(text: str) -> float:
    """Read a time such as 30m, in seconds."""
    seconds = _parse_time(text)
    if not MIN_SUSTAINED_SECONDS <= seconds <= MOST_SUSTAINED_SECONDS:
        raise typer.BadParameter(f"{text!r} is not from {MIN_SUSTAINED_SECONDS}s to {MOST_SUSTAINED_SECONDS / 3600:g}h")
    return seconds


def _cool(text: str) -> tuple[float | None, float | None]:
    """Read a temperature such as 45C, or seconds."""
    match = re.fullmatch(r"(\d+\.?\d*) ?(°?C|s)?", text)
    number, is_temperature = float(match[1]) if match else -1.0, bool(match and (match[2] or "").endswith("C"))
    if not 0 <= number <= (MOST_COOL_C if is_temperature else MOST_SUSTAINED_SECONDS):
        raise typer.BadParameter(
            f"{text!r} is neither a temperature such as 45C, up to {MOST_COOL_C}C, nor seconds such as 120, up to "
            f"{MOST_SUSTAINED_SECONDS}"
        )
    return (number, None) if is_temperature else (None, number)


@datasets.read_by_options(models=True)
def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|DIR...",
            show_default=False,
            help=options.MODELS_HELP,
        ),
    ] = None,
    data: options.OptionalData = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(ENGINES),
            callback=_check_engines,
            help=f"Measure on this engine; repeatable. By default on {', '.join(USUAL)}, where installed.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=cores.MOST,
            help="Threads for one inference; repeatable, to measure with each number. By default 1.",
        ),
    ] = None,
    preset: Annotated[
        str,
        options.choice(
            PRESETS,
            "Least calls of each kind and least time of inference for each model, after MLPerf Mobile: "
            f"{', '.join(f'{p.queries} and {p.seconds:g} s' for p in PRESETS.values())}.",
        ),
    ] = "quick",
    processes: Annotated[
        int,
        typer.Option(
            min=1, help=f"Fresh processes, each of which times every model; fewer than {MIN_PROCESSES} prove no claim."
        ),
    ] = MIN_PROCESSES,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Calls of each kind, instead of the preset's; fewer prove no claim.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds of inference, instead of the preset's; fewer prove no claim.")
    ] = None,
    sustained: Annotated[
        float | None,
        typer.Option(
            parser=_sustained,
            metavar="TIME",
            help="Then run each unit alone for so long, such as 30m, to see whether it slows down.",
        ),
    ] = None,
    cool: Annotated[
        Any,
        typer.Option(
            parser=_cool,
            metavar="45C|SECONDS",
            show_default=False,
            help="What to wait for before each unit of --sustained: a temperature, or seconds of rest. By default "
            f"{COOL_MARGIN_C:g} degrees above the start, or {REST_SECONDS:g} s where no temperature is known.",
        ),
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
    seed: Annotated[int, typer.Option(help="Seed of the order and of the choice of images.")] = 0,
    input_shape: options.InputShapes = None,
    input_value: options.InputValues = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json, verdict.json, report.md and report.html.")] = Path(
        "reports"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Resume the interrupted benchmark in --out.")] = False,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER@HOST[:PORT]|adb:SERIAL|NAME",
            rich_help_panel=_PANEL,
            show_default=False,
            help="Measure on this machine instead, through ssh: a host, or a name in --devices; repeatable. "
            "Experimental: adb:SERIAL is a phone; it times .tflite files with --benchmark-model.",
        ),
    ] = None,
    benchmark_model: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=_PANEL,
            show_default=False,
            exists=True,
            dir_okay=False,
            help="Experimental: LiteRT's benchmark_model for the phones of --device adb:SERIAL.",
        ),
    ] = None,
    devices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_PANEL,
            show_default=False,
            help=f"Table of devices; without --device, all of them. By default {fleet.TABLE}, where --device is given.",
        ),
    ] = None,
    device_folder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=_PANEL,
            show_default=False,
            help=f"Folder on the device for all that is put there. By default that of the table, or {fleet.FOLDER}.",
        ),
    ] = None,
    reconnect_for: Annotated[
        float,
        typer.Option(
            parser=_parse_time,
            metavar="TIME",
            rich_help_panel=_PANEL,
            help="How long a lost connection is made again.",
        ),
    ] = "10m",  # type: ignore[assignment]
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            rich_help_panel=_PANEL,
            help="Remove all that was put on the device: at the end, or, without models, now.",
        ),
    ] = False,
) -> None:
    """Measure model files: accuracy on the test split, latency, peak memory, size.

    Any .tflite and .onnx files can be timed. Accuracy needs --data, and
    files that pneumo-edge made. Without --data, phantom images are timed.

    The exit code is 0 if everything that can run here was measured, and 4
    if a file or an engine failed. Each failure is printed with its reason;
    the others are measured. The page with figures needs the extra "report";
    on another machine, `report` draws it from results.json.

    With --device everything runs on that machine, and continues where
    the connection is lost; the same command then resumes. The results come
    back into a folder of --out with the name of the device.
    """
    from pneumo_edge.api import benchmark as api

    if cool and sustained is None:
        raise typer.BadParameter("it needs --sustained, the time for which each unit runs alone", param_hint="--cool")
    options.check_folder(out)
    cool_c, rest_s = cool or (None, None)
    chosen = _find_devices(device, devices, device_folder, benchmark_model)
    if clean and not chosen:
        raise typer.BadParameter("needs --device", param_hint="--clean")
    if not models and not clean:
        raise typer.BadParameter("give a model file or a folder with some", param_hint="MODEL|DIR...")
    phones = [each.name for each in chosen if each.is_phone]
    if phones and (input_shape or input_value):
        raise typer.BadParameter("not with a phone", param_hint="--input-shape, --input-value")
    if phones and len(phones) == len(chosen) and engine:
        raise typer.BadParameter("a phone is measured with benchmark_model alone", param_hint="--engine")
    if phones and data and models:
        options.tell(f"accuracy is not measured on a phone; {', '.join(phones)}: time, memory and size alone")
    if chosen and resume and not phones:
        raise typer.BadParameter("with --device, the same command resumes without it", param_hint="--resume")
    if not models:
        _clean(chosen, reconnect_for)
        return
    if chosen:
        words = [word for number in threads or () for word in ("--threads", str(number))]
        for name, sizes in input_shape or ():
            words += ["--input-shape", _given(name, "x".join(map(str, sizes)))]
        for name, value in input_value or ():
            words += ["--input-value", _given(name, repr(value))]
        measured_there = _measure_there(
            models=models,
            data=datasets.optional_source(data, reading),
            devices=chosen,
            engines=engine,
            settings=api.settle(engine or USUAL, preset, processes, queries, seconds, seed, sustained, cool_c, rest_s),
            words=words,
            out=out,
            patience_s=reconnect_for,
            threads=threads or (1,),
            resume=resume,
        )
        if clean:
            _clean([each for each in chosen if each.name in measured_there], reconnect_for)
        if len(measured_there) < len(chosen):
            raise typer.Exit(ExitCode.SOME_UNJUDGED if measured_there else ExitCode.FAILED)
        _end_by(measured_there.values())
        return
    measured = api.benchmark(
        models or [],
        datasets.optional_source(data, reading),
        engines=engine,
        threads=threads or 1,
        preset=preset,
        processes=processes,
        queries=queries,
        seconds=seconds,
        sustained_s=sustained,
        cool_c=cool_c,
        rest_s=rest_s,
        seed=seed,
        input_shapes=dict(input_shape or ()),
        input_values=dict(input_value or ()),
        out=out,
        resume=resume,
        tell=options.tell,
    )
    _print(measured)
    _end_by([measured])


def _end_by(measured: Iterable[Benchmark]) -> None:
    if any(skip.failed for each in measured for skip in each.results.skipped):
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


def _given(name: str, value: str) -> str:
    return f"{name}={value}" if name else value


def _find_devices(names: list[str] | None, table: Path | None, folder: str | None, binary: Path | None) -> list[Device]:
    """The devices to measure on; none to measure here."""
    if not names and table is None:
        if folder is not None:
            raise typer.BadParameter("needs --device", param_hint="--device-folder")
        return []
    with options.usage("--devices"):
        usual = Path(fleet.TABLE)
        known = fleet.read(table or usual) if table or usual.is_file() else {}
    with options.usage("--device"):
        found = fleet.choose(names or (), known)
        if not found:
            raise typer.BadParameter(f"{table} has no device", param_hint="--devices")
        given: dict[str, str] = {} if folder is None else {"folder": folder}
        if binary is not None:
            given["benchmark_model"] = str(binary)
        return [replace(each, **given) for each in found]


def _measure_there(
    *,
    models: list[str],
    data: DataSource | None,
    devices: Sequence[Device],
    engines: list[str] | None,
    settings: BenchmarkSettings,
    words: Sequence[str],
    out: Path,
    patience_s: float,
    threads: Sequence[int],
    resume: bool,
) -> dict[str, Benchmark]:
    """Measure on devices; print what was measured, and why nothing was."""
    from pneumo_edge.api import devices as api

    found = api.benchmark(
        models,
        data,
        devices,
        engines=engines,
        settings=settings,
        options=words,
        out=out,
        patience_s=patience_s,
        threads=threads,
        resume=resume,
        tell=options.tell,
    )
    measured = {name: each for name, each in found.items() if not isinstance(each, PneumoEdgeError)}
    for each in measured.values():
        screen.show(each.results.machine.title, bold=True)
        _print(each)
    if len(measured) > 1:
        paths = " ".join(shlex.quote(str(each.results_file)) for each in measured.values())
        typer.echo(f"Side by side: pneumo-edge report {paths}")
    _tell_errors(found.values())
    return measured


def _clean(devices: Sequence[Device], patience_s: float) -> None:
    from pneumo_edge.api import devices as api

    found = api.clean(devices, patience_s, options.tell) if devices else {}
    if _tell_errors(found.values()):
        raise typer.Exit(ExitCode.FAILED)


def _tell_errors(found: Iterable[object]) -> bool:
    errors = [each for each in found if isinstance(each, PneumoEdgeError)]
    for error in errors:
        options.tell(f"error: {error}")
    return bool(errors)


def _print(measured: Benchmark) -> None:
    from pneumo_edge.api.benchmark import can_draw
    from pneumo_edge.benchmarks.report.runs import Run

    show_runs((Run("", measured.summary, measured.verdict),))
    if not can_draw():
        typer.echo('The page with figures takes the extra "report": draw it elsewhere with `pneumo-edge report`.')
    typer.echo(f"Raw results: {measured.results_file}")
    typer.echo(f"Verdict: {measured.verdict_file}")
    for path in measured.reports:
        typer.echo(f"Report: {path}")


def show_runs(runs: Runs) -> None:
    """Print what a report says, in brief: warnings, a table of the units, and a sentence for each claim."""
    from pneumo_edge.benchmarks.report import brief
    from pneumo_edge.benchmarks.report.compose import compose

    for title, _ in compose(runs).warnings:
        screen.show(f"WARNING: {title}", "bad", bold=True)
    screen.show_table(brief.table(runs), brief.LEAST)
    typer.echo()
    for run in runs:
        if run.letter:
            typer.echo(f"Run {run.label}")
        for sentence, tone in (*brief.claims(run), *brief.speeds(run), *brief.sustained(run)):
            screen.show(sentence, tone)
