"""The command line: one file per verb. Nothing else imports this package."""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module
from typing import Annotated, Any

if sys.argv[1:2] == ["serve"]:
    # A service is stopped with SIGTERM, and may be while what follows is still being imported: there is nothing yet
    # that would have to be put in order.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import typer
from typer.core import TyperCommand, TyperGroup

from pneumo_edge import __version__
from pneumo_edge._util import cores
from pneumo_edge.cli import ending, options


class _Verbs(TyperGroup):
    """Ends as :func:`pneumo_edge.cli.ending.orderly` says, from the first option on."""

    def main(self, *args: Any, **extra: Any) -> Any:
        with ending.broken_pipe_ends():
            return super().main(*args, **extra)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        # Help and version are printed here.
        with ending.orderly():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A file name is whatever bytes it is; printing it must not end a run.
                stream.reconfigure(errors="backslashreplace")
        cores.bound_libraries()
        with ending.orderly():
            return super().invoke(ctx)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pneumo-edge {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Verbs,
    name="pneumo-edge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Train, convert, prove, run and measure chest X-ray classifiers for edge devices. "
    "Research software; not a medical device.",
    epilog="Exit codes: 0 done; 2 wrong usage; 3 nothing could be done; 4 some images or files could not be judged; "
    "5 a converted file missed its gate, or a benchmark got worse; 130 interrupted (Ctrl-C, SIGTERM, SIGHUP); 1 a bug.",
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command line as a whole."""


#: Each verb and the line on it in the help of the whole; its own help is the docstring in its file.
SUMMARIES = {
    "predict": "Judge chest X-rays.",
    "serve": "Judge chest X-rays over HTTP, with a page to drop them on.",
    "info": "Print what a model file says of itself, what its graph holds, and what each engine here delegates of it.",
    "data": "Get, make and check data sets.",
    "train": "Train a backbone on chest X-rays.",
    "export": "Convert trained runs to model files, and verify each of them.",
    "verify": "Hold model files to the bounds of their format once more, on this machine.",
    "evaluate": "Score model files on a split, and report every metric with its interval.",
    "card": "Write the model card of each model file, from its ModelSpec and its metrics.",
    "benchmark": "Measure model files: accuracy on the test split, latency, peak memory, size.",
    "supplement": "Add to a benchmark's results why a file is slow, what it costs, and what other instruments read.",
    "report": "Draw the report on a benchmark from its raw results alone.",
    "choose": "Name the file that fits a device's budget.",
    "compare": "Compare two benchmarks of the same files: how many times the first the second takes.",
    "demo": "Go the whole road: train, convert, verify, predict, benchmark.",
}


class _Verb(TyperCommand):
    """A verb whose file is imported when it is run or its own help is asked for."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        options.refuse_empty(args)
        return load_verb(str(self.name)).make_context(info_name, args, parent, **extra)


def load_verb(name: str) -> Any:
    """The command behind a verb: of its file's function of that name, or of the file's own ``app``."""
    module = import_module(f"{__name__}.{name}")
    if hasattr(module, "app"):
        return typer.main.get_group(module.app)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(getattr(module, name))
    return typer.main.get_command(alone)


for _name, _summary in SUMMARIES.items():
    app.command(_name, cls=_Verb, help=_summary)(lambda: None)
