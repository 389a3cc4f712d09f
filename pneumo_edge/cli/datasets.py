"""What verbs that read a data set have in common: the option for patients, and a word on what is not used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.errors import DataError, PatternError, printable

if TYPE_CHECKING:
    from pneumo_edge.data.sources import Source

_HELP = (
    "Regular expression for the patient in the name of an image, as its one group: for example '^(p[0-9]+)_'. Without "
    "it, names of the Kermany data set are read{more}."
)
PatientPattern = Annotated[str | None, typer.Option(metavar="REGEX", help=_HELP.format(more=""))]
#: The same for verbs that are given model files.
ModelsPatientPattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX", show_default=False, help=_HELP.format(more=", or the pattern of the models is taken")
    ),
]


def open_data(path: Path, pattern: str | None, models: Sequence[Path] = ()) -> Source:
    """Open a data set; say on standard error what in its folder is not used, and whether the pattern can be right.

    Args:
        path: Of the data set.
        pattern: What the user gave for patients; "" for none, None for that of the models.
        models: Model files, and folders that are searched for them.

    Raises:
        DataError: As :func:`pneumo_edge.data.sources.open_source`.
        PatternError: The pattern cannot be used, or the models have several.
    """
    from pneumo_edge.data.layout import describe_passed_over
    from pneumo_edge.data.sources import doubt_pattern, open_source

    inherited = _pattern_of(models) if pattern is None else ""
    try:
        source = open_source(path, pattern or inherited)
    except DataError:
        if not inherited:
            raise
        # Other data than the models were trained on, whose names are not written that way.
        source = open_source(path)
    for line in describe_passed_over(source.passed_over):
        typer.echo(f"note: {printable(line)}", err=True)
    if doubt := doubt_pattern(source):
        typer.echo(f"warning: {printable(doubt)}.", err=True)
    return source


def _pattern_of(models: Sequence[Path]) -> str:
    if not models:
        return ""
    from pneumo_edge.scoring.models import find_models, read_models

    found = {model.spec.data.patient_pattern for model in read_models(find_models(models), lambda skipped: None)} - {""}
    if len(found) > 1:
        raise PatternError(
            f"the models were trained with different patient patterns ({', '.join(map(repr, sorted(found)))})",
            "one for all",
            "Give it with --patient-pattern",
        )
    return next(iter(found), "")
