"""The option for patients, which verbs that read a data set share."""

from __future__ import annotations

from typing import Annotated

import typer

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
