"""``pneumo-edge predict``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode, ImageError

if TYPE_CHECKING:
    from pneumo_edge.runtime.classifier import Classifier, Prediction


def predict(
    inputs: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Images, or folders of images.")],
    model: Annotated[Path, typer.Option(help="A model file, .tflite or .onnx.")],
    engine: Annotated[
        str | None, typer.Option(help="litert, tflite-runtime or onnxruntime; by default the best one installed.")
    ] = None,
    threads: options.Threads = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Judge chest X-rays.

    Exit code 0 where every image was judged, 4 where some could not be; each of those is named with the reason, and
    the others are judged all the same.
    """
    from pneumo_edge.runtime.classifier import Classifier

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    classifier = Classifier(model, engine=engine, threads=threads)
    unjudged: list[ImageError] = []
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


def _judge(classifier: Classifier, inputs: Iterable[Path], unjudged: list[ImageError]) -> Iterator[_Verdict]:
    for path in inputs:
        found = _images(path) if path.is_dir() else [path]
        if not found:
            error = ImageError("the folder holds no images", "files such as .jpeg or .png", "Give another folder")
            yield _refuse(path, error, unjudged)
        for image in found:
            try:
                yield _Verdict(image, classifier.predict(image))
            except ImageError as error:
                yield _refuse(image, error, unjudged)


def _images(folder: Path) -> list[Path]:
    from pneumo_edge.images import SUFFIXES

    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _refuse(path: Path, error: ImageError, unjudged: list[ImageError]) -> _Verdict:
    unjudged.append(error)
    typer.echo(f"error: {path}: {error}", err=True)
    return _Verdict(path, None, str(error))


def _write_table(verdicts: Iterable[_Verdict], classifier: Classifier) -> None:
    width = max(map(len, classifier.spec.class_names))
    positive = classifier.spec.decision.positive_class
    typer.echo(f"{'label':<{width}}  p({positive})  threshold  {'ms':>6}  image")
    for verdict in verdicts:
        if result := verdict.prediction:
            probability = f"{result.probabilities[positive]:>{len(positive) + 3}.4f}"
            typer.echo(
                f"{result.label:<{width}}  {probability}  {result.threshold:>9.4f}  {result.timings.total:>6.1f}  "
                f"{verdict.source}"
            )
    if not classifier.spec.data.real:
        typer.echo("This model was trained on PHANTOM images, not X-rays: of no use on patients.", err=True)


def _write_json(verdicts: Iterable[_Verdict], classifier: Classifier) -> None:
    images = [
        verdict.prediction.to_dict() if verdict.prediction else {"source": str(verdict.source), "error": verdict.error}
        for verdict in verdicts
    ]
    document = {"model": classifier.spec.name, "engine": classifier.engine.name, "images": images}
    typer.echo(json.dumps(document, indent=2))


def _write_csv(verdicts: Iterable[_Verdict], classifier: Classifier) -> None:
    names = classifier.spec.class_names
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "label", *names, "threshold", "total_ms", "error"])
    for verdict in verdicts:
        if result := verdict.prediction:
            shares = (result.probabilities[name] for name in names)
            writer.writerow([verdict.source, result.label, *shares, result.threshold, result.timings.total, ""])
        else:
            writer.writerow([verdict.source, "", *("" for _ in names), "", "", verdict.error])
