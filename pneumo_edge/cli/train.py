"""``pneumo-edge train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.cli import options
from pneumo_edge.training.backbones import BACKBONES
from pneumo_edge.training.recipes import RECIPES

_RECIPE_HELP = "; ".join(f"{row.name}: {row.summary}" for row in RECIPES.values()) + "."


def train(
    data: options.Data,
    backbone: Annotated[str, options.choice(BACKBONES, "The image backbone.")],
    recipe: Annotated[str, options.choice(RECIPES, _RECIPE_HELP)] = "standard",
    weights: options.Weights = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/BACKBONE-RECIPE.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides initialization and the order of images.")] = 0,
) -> None:
    """Train a backbone on chest X-rays.

    Interrupted at any moment, the same command goes on from the last
    finished epoch. Validation is drawn out of train by patient; the test
    split is not touched.
    """
    from pneumo_edge import extras, native
    from pneumo_edge.cache import cache_folder
    from pneumo_edge.data.sources import open_source
    from pneumo_edge.data.tensors import prepare

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native.quiet_stderr():
        extras.need("keras", "train")
    from pneumo_edge.training import fit, network

    folder = out or Path("runs") / f"{backbone}-{recipe}"
    dataset = prepare(open_source(data), cache_folder(), network.HEIGHT, network.WIDTH)
    if dataset.manifest.left_out:
        typer.echo(f"{len(dataset.manifest.left_out)} images are left out; each is named in {folder / 'split.json'}")
    if not dataset.manifest.real:
        typer.echo("These are PHANTOM images, not X-rays: what is trained on them says nothing of patients.", err=True)
    row = BACKBONES[backbone]
    run = fit.train(
        row, RECIPES[recipe], network.find_weights(row, weights), dataset, data, folder, cache_folder(), seed
    )
    metrics = run.training.validation
    typer.echo(
        f"{folder}: validation AUC {metrics['auc']:.4f}, accuracy {metrics['accuracy']:.4f} at threshold "
        f"{run.decision.threshold:.4f} after {run.training.epochs} epochs, from {run.training.initial_weights} weights"
    )
    typer.echo(f"Next: pneumo-edge export {folder}")
