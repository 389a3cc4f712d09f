"""``pneumo-edge watch``."""

from __future__ import annotations

import shlex
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import extras, outputs
from pneumo_edge.cli import options
from pneumo_edge.imaging import images

if TYPE_CHECKING:
    from pneumo_edge.runtime.identity import PredictorIdentity
    from pneumo_edge.service.watch.results import Results, Verdict

_LINES = ".jsonl"


def watch(
    inbox: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="The folder where images arrive.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE|DIR",
            help="Where verdicts are written: a .jsonl file that grows, or a folder for Parquet files by day.",
        ),
    ],
    model: options.Model = bundled.DEFAULT,
    engine: options.Engine = None,
    threads: options.Threads = 1,
    move: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Move classified files there. By default they stay.")
    ] = None,
    failed: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Move files there that cannot be classified. By default they stay."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            help="Run this program for each verdict, which it reads as a line of JSON. If it ends with another exit "
            "code than 0, or not within a minute, it gets the verdict again."
        ),
    ] = None,
    heartbeat: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the state to this file every 5 seconds, as JSON.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write metrics to this file every 5 seconds, in Prometheus's text format."),
    ] = None,
    poll: Annotated[
        float | None,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="List the folder this often, such as 2s, instead of using the system's events: for network folders.",
        ),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="Where the system does not tell whether a file is still being written, take it after this time "
            "without a change.",
        ),
    ] = "2s",  # type: ignore[assignment]
    patience: Annotated[
        float,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="A file that cannot be read has failed after this time without a change.",
        ),
    ] = "30s",  # type: ignore[assignment]
    max_body: options.MaxBody = options.MAX_BODY,
    max_pixels: Annotated[int, options.max_pixels(images.MAX_PIXELS)] = images.MAX_PIXELS,
) -> None:
    """Classify the images that arrive in a folder, each once.

    The oldest comes first. A file is classified when it is whole: when it is renamed to its place,
    or closed by the program that writes it. Hidden files, and names that
    end in .part, .tmp or the like, are left alone. Stop the command with
    SIGTERM (exit code 0) or Ctrl-C (130), and start it again with the same
    options: no file is lost and none is written twice, even after a kill.
    """
    if poll is None:
        extras.check("watchdog", "watch")
    if metrics:
        extras.check("prometheus_client", "watch")
    from pneumo_edge.runtime.classifier import Classifier
    from pneumo_edge.runtime.identity import PredictorIdentity
    from pneumo_edge.service.limits import Limits
    from pneumo_edge.service.watch.heartbeat import Heartbeat
    from pneumo_edge.service.watch.run import Setup, run

    inbox = inbox.resolve()
    # Of the folders, what is inside the folder that is watched is not looked at.
    out = out.resolve()
    move, failed, heartbeat, metrics = (each and each.resolve() for each in (move, failed, heartbeat, metrics))
    for option, folder in (("--out", out), ("--move", move), ("--failed", failed)):
        if folder in (inbox, *inbox.parents):
            raise typer.BadParameter(f"{folder} contains the folder that is watched", param_hint=option)
    for option, folder in (("--move", move), ("--failed", failed)):
        if folder:
            with options.usage(option):
                outputs.check_folder(folder)
    arguments = _arguments(command)
    classifier = Classifier(model, engine=engine, threads=threads, max_pixels=max_pixels)
    options.warn_phantom(classifier)
    options.warn_unverified(classifier)
    predictor = PredictorIdentity.of(classifier)
    results, ledger = _results(out, predictor)
    _check_files({"--out": out, "--heartbeat": heartbeat, "--metrics": metrics}, ledger)
    seconds = options.TIMES["s"]
    setup = Setup(
        inbox,
        ledger,
        frozenset(each for each in (out, ledger, heartbeat, metrics) if each),
        move,
        failed,
        arguments,
        None if poll is None else poll / seconds,
        settle / seconds,
        patience / seconds,
        Limits(body=int(max_body), pixels=max_pixels),
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    typer.echo(f"Watching {inbox} (stop with Ctrl-C)")
    run(setup, classifier, results, Heartbeat(predictor, heartbeat, metrics), options.tell, stop)


def _arguments(command: str | None) -> tuple[str, ...]:
    if command is None:
        return ()
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise typer.BadParameter(f"{command!r} is not a command ({error})", param_hint="--command") from error
    if not arguments or not shutil.which(arguments[0]):
        program = repr(arguments[0]) if arguments else "an empty text"
        raise typer.BadParameter(f"{program} is not a program that this user can run", param_hint="--command")
    return tuple(arguments)


def _check_files(written: Mapping[str, Path | None], ledger: Path) -> None:
    """Refuse options that would write the same file, or a file in the place of a folder."""
    taken = {ledger: "the ledger"}
    for option, path in written.items():
        if path is None:
            continue
        if path in taken:
            raise typer.BadParameter(f"{path} is also the file of {taken[path]}", param_hint=option)
        taken[path] = option
        if option != "--out":
            options.check_out(path, [], option)


def _results(out: Path, predictor: PredictorIdentity) -> tuple[Results, Path]:
    """Where verdicts are written, and the ledger beside it."""
    from pneumo_edge.service.watch.results import Lines, Parts

    if out.suffix == _LINES and not out.is_dir():
        return Lines(out), out.with_name(f".{out.name}.ledger")
    if out.suffix and not out.is_dir():
        raise typer.BadParameter(f"{out} is neither a {_LINES} file nor a folder", param_hint="--out")
    options.check_folder(out)
    extras.need("pyarrow", "parquet")
    return Parts(out, partial(_write_part, predictor)), out / "_ledger"


def _write_part(predictor: PredictorIdentity, verdicts: Sequence[Verdict], path: Path) -> None:
    from pneumo_edge.cli import predictions

    first = verdicts[0]
    if first["model_sha256"] != predictor.sha256:
        names = next((tuple(each["probabilities"]) for each in verdicts if "error" not in each), ())
        predictor = replace(
            predictor,
            model=first["model"],
            sha256=first["model_sha256"],
            engine=first["engine"],
            version="",
            class_names=names,
        )
    predictions.write(verdicts, predictor, path)
