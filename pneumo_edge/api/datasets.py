"""Opens a data set, and tells what in its folder is not used and whether its patients can be right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pneumo_edge.api import arguments
from pneumo_edge.api.arguments import Tell
from pneumo_edge.data.layout import describe_passed_over
from pneumo_edge.data.sources import Source, doubt_pattern, open_source
from pneumo_edge.errors import DataError, PatternError, printable
from pneumo_edge.scoring.models import find_models, read_models


def open_data(
    path: Path, pattern: str | None, models: Sequence[Path] = (), *, tell: Tell = arguments.print_line
) -> Source:
    """Open a data set.

    Args:
        path: Of the data set.
        pattern: What the user gave for patients; "" for none, None for that of the models.
        models: Model files, and folders that are searched for them.
        tell: Called with a line on each kind of file that is not used, and one where the pattern is doubtful.

    Raises:
        DataError: As :func:`pneumo_edge.data.sources.open_source`.
        PatternError: The pattern cannot be used, or the models have several.
    """
    inherited = _pattern_of(models) if pattern is None else ""
    try:
        source = open_source(path, pattern or inherited)
    except DataError:
        if not inherited:
            raise
        # Other data than the models were trained on, whose names are not written that way.
        source = open_source(path)
    for line in describe_passed_over(source.passed_over):
        tell(f"note: {printable(line)}")
    if doubt := doubt_pattern(source):
        tell(f"warning: {printable(doubt)}.")
    return source


def _pattern_of(models: Sequence[Path]) -> str:
    if not models:
        return ""
    found = {model.spec.data.patient_pattern for model in read_models(find_models(models), lambda skipped: None)} - {""}
    if len(found) > 1:
        raise PatternError(
            f"the models were trained with different patient patterns ({', '.join(map(repr, sorted(found)))})",
            "one for all",
            "Give it with --patient-pattern",
        )
    return next(iter(found), "")
