"""The settings of a run; an interrupted run resumes only with the same settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pneumo_edge._util import files, records
from pneumo_edge.errors import TrainingError

SETTINGS_NAME = "settings.json"
#: Most characters of a value from the file that an error quotes.
_MOST_VALUE = 100


def check_settings(folder: Path, settings: Any) -> None:
    """Write settings into a run's folder, or compare them with the settings there.

    Args:
        folder: The run's folder.
        settings: A frozen dataclass of the settings that must not change when a run resumes.

    Raises:
        TrainingError: The folder contains a run with other settings.
    """
    path, given = folder / SETTINGS_NAME, asdict(settings)
    if not path.exists():
        files.write_text(path, records.dumps(settings))
        return
    try:
        found = asdict(records.loads(type(settings), path.read_bytes()))
    except records.RecordError as error:
        raise TrainingError(
            f"{folder} contains a run of another kind ({error})", "an empty or a new folder", "Give another --out"
        ) from error
    if changed := [key for key in given if given[key] != found[key]]:
        raise TrainingError(
            f"{folder} contains a run with other settings: {', '.join(_change(key, given, found) for key in changed)}",
            "the settings it was started with",
            "Give another --out, or remove that folder",
        )


def _change(key: str, given: dict[str, Any], found: dict[str, Any]) -> str:
    if isinstance(given[key], dict):
        return f"{key} (see {SETTINGS_NAME})"
    return f"{key} {given[key]} (it has {str(found[key])[:_MOST_VALUE]})"
