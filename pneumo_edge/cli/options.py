"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer


def choice(names: Iterable[str], help_text: str) -> Any:
    """An option that takes one of some names, for a parameter of type str."""
    allowed = list(names)

    def check(value: str) -> str:
        if value not in allowed:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    callback: Callable[[str], str] = check
    return typer.Option(metavar="|".join(allowed), callback=callback, help=help_text)


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
