"""Opens a data set, and reports unused files and doubtful patient patterns."""

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
        path: The data set.
        pattern: The user's pattern for patients; "" for none, None for the pattern in the models.
        models: Model files, and folders with model files.
        tell: Called with a line for each kind of file that is not used, and a line if the pattern is doubtful.

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
        # The models were trained on other data, with other file names.
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
            "the same pattern in all models",
            "Give the pattern with --patient-pattern",
        )
    return next(iter(found), "")
