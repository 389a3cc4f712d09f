"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pneumo_edge import bundled

#: What the help says of a model; the parameter is text, because as a path ``./NAME`` would be the bundled NAME.
MODEL_HELP = f"A bundled model ({', '.join(bundled.NAMES)}), or a model file, .tflite or .onnx."
MODELS_HELP = f"Model files, folders that are searched for them, or bundled models ({', '.join(bundled.NAMES)})."


def choice(names: Iterable[str], help_text: str, metavar: str | None = None) -> Any:
    """An option that takes one of some names, for a parameter of type str or ``str | None``."""
    allowed = list(names)

    def check(value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    callback: Callable[[str | None], str | None] = check
    return typer.Option(metavar=metavar or "|".join(allowed), callback=callback, help=help_text)


Data = Annotated[
    Path,
    typer.Option(envvar="PNEUMO_EDGE_DATA", help="Folder with class folders, or a MedMNIST pneumoniamnist*.npz."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        envvar="PNEUMO_EDGE_WEIGHTS",
        help="ImageNet weights: a file, or a folder that has them. Without it, Keras downloads them.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads for one inference.")]


def describe_measured(measured: Mapping[str, float]) -> str:
    """What the gate measured of a file on one engine, in a line for a person."""
    text = (
        f"{measured['images']:.0f} images, same decision on {measured['agreement']:.1%}, largest difference "
        f"{measured['max_difference']:.2g}, mean {measured['mean_difference']:.2g}"
    )
    if "max_auc_loss" in measured:
        text += f", AUC loss {measured['auc_loss']:.4f}, at most {measured['max_auc_loss']:.4f}"
    return text
