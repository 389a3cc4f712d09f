"""``pneumo-edge train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import datasets, options
from pneumo_edge.training.recipes import RECIPES
from pneumo_edge.training.report_recipes import REPRODUCTIONS

if TYPE_CHECKING:
    from pneumo_edge.data.tensors import Dataset
    from pneumo_edge.training.initial_weights import InitialWeights

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
    from pneumo_edge._util import extras, jobs, native_output
    from pneumo_edge._util.cache import cache_folder, keep_within_limit
    from pneumo_edge.data.tensors import prepare

    backbone = _settle(backbone, recipe, epochs, images)
    if out:
        options.check_out_folder(out)
    # What is wrong is said before TensorFlow takes its seconds to load.
    extras.check("keras", "train")
    source = datasets.open_data(data, patient_pattern)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_output.quiet_stderr():
        extras.need("keras", "train")
    from pneumo_edge.training import fit, initial_weights, network

    is_report = recipe in REPRODUCTIONS
    folder = out or Path("runs") / (recipe if is_report else f"{backbone}-{recipe}")
    dataset = prepare(source, cache_folder(), network.HEIGHT, network.WIDTH)
    if dataset.manifest.left_out:
        record = folder / ("reproduction.json" if is_report else "split.json")
        typer.echo(f"{len(dataset.manifest.left_out)} images are left out; each is named in {record}")
    typer.echo(f"Validation: {dataset.manifest.rule}")
    if not dataset.manifest.real:
        typer.echo("These are PHANTOM images, not X-rays: what is trained on them says nothing of patients.", err=True)
    row = BACKBONES[backbone]
    initial = initial_weights.find(row, weights, trained=not is_report)
    with jobs.alone(folder / runs.RECORD_NAME, "training", jobs.SAME_COMMAND):
        if is_report:
            _reproduce(recipe, initial, dataset, folder, seed, epochs, images)
            return
        run = fit.train(row, RECIPES[recipe], initial, dataset, data, folder, cache_folder(), seed)
    keep_within_limit(cache_folder())
    metrics = run.training.validation
    typer.echo(
        f"{folder}: validation AUC {metrics['auc']:.4f}, accuracy {metrics['accuracy']:.4f} at threshold "
        f"{run.decision.threshold:.4f} after {run.training.epochs} epochs. "
        f"Initial weights: {run.training.initial_weights}"
    )
    typer.echo(f"Next: pneumo-edge export {folder}")


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
    weights: InitialWeights,
    dataset: Dataset,
    folder: Path,
    seed: int,
    epochs: int | None,
    images: int | None,
) -> None:
    from pneumo_edge.training import reproduction

    result = reproduction.reproduce(REPRODUCTIONS[recipe], weights, dataset, folder, seed, epochs, images)
    rows = reproduction.read_history(folder)
    typer.echo(
        f"{folder}: validation accuracy by epoch {', '.join(f'{row.val_accuracy:.4f}' for row in rows)}, "
        f"{rows[-1].called_pneumonia:.0%} called pneumonia at the end. Initial weights: {result.initial_weights}. "
        f"Validation is the report's: {sum(result.validation_images.values())} test images. There is no model to export"
    )
