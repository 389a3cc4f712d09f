"""``pneumo-edge info``."""

from __future__ import annotations

from typing import Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options
from pneumo_edge.errors import printable


def info(
    model: Annotated[str, typer.Argument(help=options.MODEL_HELP)] = bundled.DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ModelSpec as JSON.")] = False,
) -> None:
    """Print what a model file says of itself: classes, input, threshold, training data, verification."""
    from pneumo_edge import records
    from pneumo_edge.runtime.classifier import read_spec

    path = bundled.find(model)
    spec = read_spec(path)
    if as_json:
        typer.echo(records.dumps(spec), nl=False)
        return
    size = spec.input
    rows = {
        "name": spec.name,
        "file": f"{path.stat().st_size / 1e6:.2f} MB",
        "classes": ", ".join(spec.class_names),
        "input": f"{size.dtype} pixels {size.minimum} to {size.maximum}, 1x{size.height}x{size.width}x{size.channels}",
        "decision": f"{spec.decision.positive_class} where its probability is at least {spec.decision.threshold:.4f}",
        "threshold by": f"{spec.decision.rule}; {spec.decision.chosen_on}",
        "temperature": f"{spec.temperature:.3f}, inside the graph",
        "trained on": f"{spec.data.name}, {sum(spec.data.counts.get('train', {}).values())} images "
        f"(split {spec.data.fingerprint[:12]})",
        "training": f"recipe {spec.training.recipe}, seed {spec.training.seed}, {spec.training.epochs} epochs",
        "initial weights": spec.training.initial_weights,
        "validation": ", ".join(f"{name} {value:.4f}" for name, value in spec.training.validation.items()),
        "data licence": spec.data.licence,
    }
    if spec.verification:
        rows["verified on"] = ", ".join(f"{name} {version}" for name, version in spec.verification.engines.items())
        for name, measured in spec.verification.measured.items():
            rows[f"  {name}"] = ", ".join(f"{key} {value:.4g}" for key, value in measured.items())
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in spec.versions.items())
    if not spec.data.real:
        rows["NOTE"] = "trained on PHANTOM images, not X-rays: of no use on patients"
    rows["notice"] = spec.notice
    width = max(map(len, rows))
    for key, value in rows.items():
        typer.echo(f"{key:<{width}}  {printable(value)}")
