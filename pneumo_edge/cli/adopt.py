"""``pneumo-edge adopt``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.backbones import LEAST_SIDE_ELSEWHERE, MOST_SIDE
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import printable
from pneumo_edge.scaling import SCALINGS

_LAYOUTS = ("nhwc", "nchw")
_OUTPUTS = ("probabilities", "logits")


@datasets.read_by_options()
def adopt(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .onnx classifier from another tool.")],
    data: options.Data,
    reading: datasets.Reading = datasets.AS_IT_IS,
    input_range: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help=f"What pixels are scaled to before the model. {', '.join(SCALINGS)}, LOW..HIGH, or mean=M;std=S.",
        ),
    ] = None,
    layout: Annotated[
        str | None, options.choice(_LAYOUTS, "Where its channels stand; by default told by its shape.")
    ] = None,
    output: Annotated[
        str | None, options.choice(_OUTPUTS, "What its output gives; by default told by its last operator and values.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=LEAST_SIDE_ELSEWHERE,
            max=MOST_SIDE,
            help="Height and width of the images, for a model of any size, in pixels.",
        ),
    ] = None,
    accept_input_range: Annotated[
        bool, typer.Option("--accept-input-range", help="Keep --input-range although another one is right more often.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the file.")] = Path("models"),
) -> None:
    """Make a model file of another tool usable with predict, verify, evaluate, benchmark and serve.

    It measures the file on the validation images of --data, chooses a
    threshold, and writes a copy with a ModelSpec, a proof and a reference
    set. Graph and weights stay byte for byte. The classes of --data are in
    the order of the model's output; --classes sets it. If the file is right
    more often with another scaling than --input-range, the command ends with
    exit code 5.
    """
    from pneumo_edge.api import adopt as api
    from pneumo_edge.converters import proof, reference

    options.check_out(out / model.name, [model])
    adopted = api.adopt(
        model,
        datasets.source(data, reading),
        input_range=input_range,
        layout=layout,
        output=output,
        image_size=image_size,
        accept_input_range=accept_input_range,
        out=out,
        tell=options.tell,
    )
    measured = ", ".join(f"{name} {value:.4f}" for name, value in adopted.spec.training.validation.items())
    images = sum(adopted.spec.data.counts["val"].values())
    screen.show(f"{adopted.path}: adopted; on {images:,} validation images {measured}", "good")
    typer.echo(
        f"Beside it lie its proof, {printable(proof.path(adopted.path).name)}, and its reference set, "
        f"{printable(reference.file_name(adopted.path.name))}. verify needs the three under these names."
    )
    typer.echo(f"Next: pneumo-edge predict IMAGE --model {shlex.quote(printable(adopted.path))}")
