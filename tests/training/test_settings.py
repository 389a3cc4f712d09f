from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pneumo_edge._util import files, records
from pneumo_edge.errors import TrainingError
from pneumo_edge.training.settings import check_settings


@dataclass(frozen=True)
class _Settings:
    recipe: str
    seed: int


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    check_settings(tmp_path / "run", _Settings("quick", 0))
    check_settings(tmp_path / "run", _Settings("quick", 0))


def test_other_settings_are_named(tmp_path: Path) -> None:
    check_settings(tmp_path, _Settings("quick", 0))
    with pytest.raises(TrainingError, match=r"other settings: recipe standard \(it has quick\); expected"):
        check_settings(tmp_path, _Settings("standard", 0))
    check_settings(tmp_path, _Settings("quick", 0))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Other:
        recipe: str

    files.write_text(tmp_path / "settings.json", records.dumps(Other("quick")))
    with pytest.raises(TrainingError, match=r"a run of another kind .*seed is missing"):
        check_settings(tmp_path, _Settings("quick", 0))
