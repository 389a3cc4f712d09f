"""``pneumo-edge train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import datasets, options
from pneumo_edge.training.recipes import RECIPES
from pneumo_edge.training.report_recipes import REPRODUCTIONS

if TYPE_CHECKING:
    from pneumo_edge.api.train import TrainedRun
    from pneumo_edge.data.tensors import Dataset

_RECIPE_HELP = "; ".join(f"{row.name}: {row.summary}" for row in RECIPES.values()) + (
    "; report-*: the runs of the student report and their corrected twins, see docs/report-reproduction.md."
)


def train(
    data: options.Data,
    backbone: Annotated[
        str | None, options.choice(BACKBONES, "The image backbone; a report-* recipe has its own.")
    ] = None,
    recipe: Annotated[
        str, options.choice([*RECIPES, *REPRODUCTIONS], _RECIPE_HELP, "|".join([*RECIPES, "report-*"]))
    ] = "best",
    weights: options.Weights = None,
    patient_pattern: datasets.PatientPattern = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/BACKBONE-RECIPE, or runs/RECIPE.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides initialization and the order of images.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The most epochs of each phase; for a report-* recipe only.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=2, help="Train on so many images, drawn; for a report-* recipe only.")
    ] = None,
) -> None:
    """Train a backbone on chest X-rays.

    Interrupted at any moment, the same command goes on from the last
    finished epoch. Validation is drawn out of train by patient; the test
    split is not touched. A report-* recipe does as the report did instead:
    it trains on all of train, takes the test split for validation, and
    leaves no model.
    """
    from pneumo_edge import runs
    from pneumo_edge.api import train as api

    backbone = _settle(backbone, recipe, epochs, images)
    is_report = recipe in REPRODUCTIONS
    folder = out or (Path("runs", recipe) if is_report else api.default_folder(backbone, recipe))
    with options.usage():
        dataset = api.read_data(data, patient_pattern, folder, options.tell)
    for line in api.describe(dataset, folder / ("reproduction.json" if is_report else runs.MANIFEST_NAME)):
        typer.echo(line)
    if not dataset.manifest.real:
        options.tell(api.PHANTOM)
    if is_report:
        _reproduce(recipe, backbone, weights, dataset, folder, seed, epochs, images)
    else:
        _print(api.train_on(dataset, data, backbone, recipe, weights, folder, seed))


def _print(run: TrainedRun) -> None:
    training = run.record.training
    metrics = training.validation
    typer.echo(
        f"{run.folder}: validation AUC {metrics['auc']:.4f}, accuracy {metrics['accuracy']:.4f} at threshold "
        f"{run.record.decision.threshold:.4f} after {training.epochs} epochs. "
        f"Initial weights: {training.initial_weights}"
    )
    typer.echo(f"Next: pneumo-edge export {run.folder}")


def _settle(backbone: str | None, recipe: str, epochs: int | None, images: int | None) -> str:
    """The backbone that is meant, where the options go together."""
    if report := REPRODUCTIONS.get(recipe):
        if backbone not in (None, report.backbone):
            raise typer.BadParameter(f"{recipe} is a run of {report.backbone}; leave --backbone out, or give that")
        return report.backbone
    if epochs is not None or images is not None:
        raise typer.BadParameter(f"--epochs and --images are for report-* recipes; {recipe} has its own epochs")
    if backbone is None:
        raise typer.BadParameter(f"the recipe {recipe} needs --backbone, one of {', '.join(BACKBONES)}")
    return backbone


def _reproduce(
    recipe: str,
    backbone: str,
    weights: Path | None,
    dataset: Dataset,
    folder: Path,
    seed: int,
    epochs: int | None,
    images: int | None,
) -> None:
    from pneumo_edge import runs
    from pneumo_edge._util import jobs
    from pneumo_edge.training import initial_weights, reproduction

    initial = initial_weights.find(BACKBONES[backbone], weights, trained=False)
    with jobs.alone(folder / runs.RECORD_NAME, "training", jobs.SAME_COMMAND):
        result = reproduction.reproduce(REPRODUCTIONS[recipe], initial, dataset, folder, seed, epochs, images)
    rows = reproduction.read_history(folder)
    typer.echo(
        f"{folder}: validation accuracy by epoch {', '.join(f'{row.val_accuracy:.4f}' for row in rows)}, "
        f"{rows[-1].called_pneumonia:.0%} called pneumonia at the end. Initial weights: {result.initial_weights}. "
        f"Validation is the report's: {sum(result.validation_images.values())} test images. There is no model to export"
    )
