"""``pneumo-edge card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options


def card(
    metrics: Annotated[
        Path, typer.Option(readable=False, help="The metrics.json that `evaluate --split test` wrote for the models.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help=f"{options.MODEL_HELP} By default all bundled models."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(show_default=False, help="Folder for the cards; by default beside each model file.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(show_default=False, help="Also write a page that lists the bundled models.")
    ] = None,
) -> None:
    """Write a model card for each model file from its ModelSpec and its metrics.

    A model of the X-rays of Kermany et al. (2018) gets a text about their
    patients, hospital and licences.
    """
    from pneumo_edge._util import files
    from pneumo_edge.scoring import cards, summary

    if index and models:
        raise typer.BadParameter("lists the bundled models; give no MODEL with it", param_hint="--index")
    paths = [bundled.find(model) for model in models or bundled.NAMES]
    if out:
        options.check_folder(out)
    if index:
        options.check_out(index, [metrics, *paths], "--index")
    evaluation = summary.read(metrics)
    # All cards are composed before the first is written.
    texts = []
    for path in paths:
        collected = cards.collect(path, evaluation)
        target = (out or path.parent) / f"{path.stem}.md"
        options.check_out(target, [metrics, *paths])
        texts.append((collected, target, cards.render(collected)))
    for _, target, text in texts:
        files.write_text(target, text)
        typer.echo(f"Card: {target}")
    if index:
        files.write_text(index, cards.render_index([(each, target) for each, target, _ in texts], index))
        typer.echo(f"Page: {index}")
