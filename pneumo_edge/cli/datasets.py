"""The option for patient patterns, shared by the verbs that read a data set."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = (
    "Regular expression whose one group is the patient in an image's file name, for example '^(p[0-9]+)_'. By default "
    "names of the Kermany data set are recognized{more}."
)
PatientPattern = Annotated[str | None, typer.Option(metavar="REGEX", help=_HELP.format(more=""))]
#: The same, for verbs that take model files.
ModelsPatientPattern = Annotated[
    str | None,
    typer.Option(metavar="REGEX", show_default=False, help=_HELP.format(more=", or the pattern in the models is used")),
]
