"""``pneumo-edge predict``."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode, ImageError, printable

if TYPE_CHECKING:
    from pneumo_edge.runtime.classifier import Classifier, Prediction


def predict(
    # Paths that cannot be read are named one by one, not refused by the command line.
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE|DIR", readable=False, help="Images (DICOM: with the extra 'dicom'), or folders of images."
        ),
    ],
    model: Annotated[str, typer.Option(help=options.MODEL_HELP)] = bundled.DEFAULT,
    engine: Annotated[
        str | None, typer.Option(help="litert, tflite-runtime or onnxruntime; by default the best one installed.")
    ] = None,
    threads: options.Threads = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Judge chest X-rays.

    Exit code 0 where every image was judged, 4 where some could not be;
    each of those is named with the reason, and the others are judged all
    the same.
    """
    from pneumo_edge.runtime.classifier import Classifier

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    classifier = Classifier(model, engine=engine, threads=threads)
    if not classifier.spec.data.real:
        typer.echo("This model was trained on PHANTOM images, not X-rays: of no use on patients.", err=True)
    unjudged: list[Path] = []
    verdicts = _judge(classifier, inputs, unjudged)
    if as_json:
        _write_json(verdicts, classifier)
    elif as_csv:
        _write_csv(verdicts, classifier)
    else:
        _write_table(verdicts, classifier)
    if unjudged:
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


@dataclass(frozen=True)
class _Verdict:
    """What came of one path: a prediction or the reason why there is none."""

    source: Path
    prediction: Prediction | None
    error: str = ""


def _judge(classifier: Classifier, inputs: Iterable[Path], unjudged: list[Path]) -> Iterator[_Verdict]:
    for path, problem in _find(inputs):
        try:
            if problem:
                raise problem
            verdict = _Verdict(path, classifier.predict(path))
        except ImageError as error:
            unjudged.append(path)
            typer.echo(f"error: {printable(path)}: {error}", err=True)
            verdict = _Verdict(path, None, str(error))
        yield verdict


def _find(inputs: Iterable[Path]) -> Iterator[tuple[Path, ImageError | None]]:
    """Images in the order they were given, those of a folder sorted; a folder without any with the reason."""
    from pneumo_edge.images import SUFFIXES

    for path in inputs:
        if not _is_folder(path):
            yield path, None
            continue
        closed: list[OSError] = []
        walk = os.walk(path, onerror=closed.append)
        files = (Path(folder, name) for folder, _, names in walk for name in names)
        found = sorted(file for file in files if file.suffix.lower() in SUFFIXES)
        for error in closed:
            problem = f"the folder cannot be read ({error.strerror})"
            yield Path(error.filename), ImageError(problem, "a readable folder", "Check its permissions")
        if not found and not closed:
            problem = "the folder holds no images"
            yield path, ImageError(problem, "files such as .jpeg or .png", "Give another folder")
        yield from ((image, None) for image in found)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a path, or one in a private folder: reading it will say so
        return False


def _write_table(verdicts: Iterable[_Verdict], classifier: Classifier) -> None:
    width = max(map(len, classifier.spec.class_names))
    positive = classifier.spec.decision.positive_class
    typer.echo(f"{'label':<{width}}  p({positive})  threshold  {'ms':>6}  image")
    for verdict in verdicts:
        if result := verdict.prediction:
            probability = f"{result.probabilities[positive]:>{len(positive) + 3}.4f}"
            typer.echo(
                f"{result.label:<{width}}  {probability}  {result.threshold:>9.4f}  {result.timings.total:>6.1f}  "
                f"{printable(verdict.source)}"
            )


def _write_json(verdicts: Iterable[_Verdict], classifier: Classifier) -> None:
    images = [
        verdict.prediction.to_dict() if verdict.prediction else {"source": str(verdict.source), "error": verdict.error}
        for verdict in verdicts
    ]
    document = {"model": classifier.spec.name, "engine": classifier.engine.name, "images": images}
    typer.echo(json.dumps(document, indent=2))


def _write_csv(verdicts: Iterable[_Verdict], classifier: Classifier) -> None:
    names = classifier.spec.class_names
    _write_row("image", "label", *names, "threshold", "total_ms", "error")
    for verdict in verdicts:
        if result := verdict.prediction:
            shares = (result.probabilities[name] for name in names)
            _write_row(verdict.source, result.label, *shares, result.threshold, result.timings.total, "")
        else:
            _write_row(verdict.source, "", *("" for _ in names), "", "", verdict.error)


def _write_row(*cells: object) -> None:
    # Each row is printed as soon as it is known.
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    typer.echo(line.getvalue(), nl=False)
