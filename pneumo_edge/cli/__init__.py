"""The command line: one file per verb. Nothing else imports this package."""

from __future__ import annotations

import inspect
import io
import os
import signal
import sys
from importlib import import_module
from typing import Annotated, Any

if sys.argv[1:2] in (["serve"], ["watch"]):
    # SIGTERM stops a service. While the imports below still run there is nothing to clean up.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import typer
from typer.core import TyperCommand, TyperGroup

from pneumo_edge import __version__
from pneumo_edge._util import cores
from pneumo_edge.cli import ending, options


class _Verbs(TyperGroup):
    """Ends as :func:`pneumo_edge.cli.ending.orderly` describes, also while options are parsed."""

    def main(self, *args: Any, **extra: Any) -> Any:
        with ending.broken_pipe_ends():
            return super().main(*args, **extra)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        # Help and version are printed in this call.
        with ending.orderly():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A file name can hold any bytes; printing it must not end a run.
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
    help="Example: pneumo-edge predict x-ray.jpeg\n\n"
    "Train, convert, verify, run and benchmark chest X-ray classifiers for edge devices. "
    "Research software; not a medical device.",
    epilog="Exit codes: 0 done; 2 wrong usage; 3 nothing could be done; 4 some images, files or runs failed; "
    "5 a converted file failed its acceptance checks, or a benchmark got worse; 130 interrupted (Ctrl-C, SIGTERM, "
    "SIGHUP); 1 a bug.",
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


#: Each verb and its line in the program's help. The verb's own help is the docstring in its file.
SUMMARIES = {
    "predict": "Classify chest X-rays.",
    "score": "Classify an archive of images into a Parquet data set.",
    "serve": "Classify chest X-rays over HTTP, with a web page that takes images.",
    "web": "Build a static site that classifies chest X-rays in the browser.",
    "watch": "Classify the images that arrive in a folder, each once.",
    "info": "Print a model file's inputs, operators, size and metadata, and what each engine delegates.",
    "data": "Download, draw and audit data sets.",
    "train": "Train a network on labelled images.",
    "study": "Show the runs of a study, and compare its networks.",
    "export": "Convert trained runs to model files and verify each file.",
    "adopt": "Make a model file of another tool usable with predict, verify, evaluate, benchmark and serve.",
    "verify": "Re-run the acceptance checks of model files on this machine.",
    "evaluate": "Score model files on a split and report every metric with its interval.",
    "kit": "Write what a port to another language needs, and grade such a port.",
    "card": "Write a model card for each model file from its ModelSpec and its metrics.",
    "benchmark": "Measure model files: accuracy on the test split, latency, peak memory, size.",
    "supplement": "Add to benchmark results: operator times, energy, throughput, and cross-checks with other tools.",
    "report": "Write the report of a benchmark from its raw results.",
    "choose": "Choose the model file that fits a device's budget.",
    "compare": "Compare two benchmarks of the same files.",
    "demo": "Run the whole pipeline: predict, train, export, verify, benchmark.",
}

#: What a newcomer types: the first line of the help of each verb, and of each verb inside a verb.
EXAMPLES = {
    "predict": "predict x-ray.jpeg",
    "score": "score archive --out scores",
    "serve": "serve --port 8000",
    "web": "web mobilenetv2 --out site",
    "watch": "watch inbox --out results.jsonl",
    "info": "info models/mobilenetv2-int8.tflite",
    "data": "data audit chest_xray",
    "data fetch": "data fetch",
    "data phantom": "data phantom phantom",
    "data audit": "data audit chest_xray --json audit.json",
    "train": "train --data chest_xray --backbone mobilenetv2 --recipe quick",
    "study": "study runs/study-quick",
    "export": "export runs/mobilenetv2-quick",
    "adopt": "adopt model.onnx --input-range imagenet --data chest_xray",
    "verify": "verify models/mobilenetv2-int8.tflite",
    "evaluate": "evaluate models --data chest_xray --split test",
    "kit": "kit make mobilenetv2 --out kit",
    "kit make": "kit make models/mobilenetv2-int8.tflite --out kit",
    "kit check": "kit check kit results.json",
    "card": "card mobilenetv2 --metrics reports/evaluation-test/metrics.json",
    "benchmark": "benchmark models --data chest_xray",
    "supplement": "supplement reports/results.json models --data chest_xray",
    "report": "report reports/results.json --out report.html",
    "choose": "choose reports/results.json --max-size 3MB",
    "compare": "compare before.json after.json",
    "demo": "demo",
}


class _Verb(TyperCommand):
    """A verb whose file is imported only when the verb runs or prints its help."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        options.refuse_empty(args)
        return load_verb(str(self.name)).make_context(info_name, args, parent, **extra)


def load_verb(name: str) -> Any:
    """Load the command behind a verb: the function of that name in its file, or the file's own ``app``."""
    module = import_module(f"{__name__}.{name}")
    if hasattr(module, "app"):
        group = typer.main.get_group(module.app)
        for inner, command in group.commands.items():
            _begin_with_example(command, f"{name} {inner}")
        return _begin_with_example(group, name)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(getattr(module, name))
    return _begin_with_example(typer.main.get_command(alone), name)


def _begin_with_example(command: Any, name: str) -> Any:
    # The list of a group's verbs shows the summary.
    command.short_help = inspect.cleandoc(command.help).partition("\n\n")[0]
    command.help = f"Example: pneumo-edge {EXAMPLES[name]}\n\n{inspect.cleandoc(command.help)}"
    return command


for _name, _summary in SUMMARIES.items():
    app.command(_name, cls=_Verb, help=_summary)(lambda: None)
