"""The pages with this project's own benchmark say what its raw results say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import published, results
from benchmarks.summary import summarise
from pneumo_edge.errors import ResultsError

_ROOT = Path(__file__).parents[2]


def test_the_pages_follow_from_the_raw_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (published.FULL, published.REPEATED, published.README, published.PAGE):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (_ROOT / path).is_dir() else shutil.copy)(_ROOT / path, target)
    monkeypatch.chdir(tmp_path)
    published.main()
    for path in (published.README, published.PAGE, published.MARKDOWN):
        assert path.read_text(encoding="utf-8") == (_ROOT / path).read_text(encoding="utf-8"), (
            f"{path} is not what `make benchmark-pages` makes"
        )
    # Figures differ with the version of what draws them.
    assert published.HTML.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_no_neighbours_of_the_repeated_runs_raise_an_alarm() -> None:
    repeated = [summarise(results.read(path)) for path in sorted((_ROOT / published.REPEATED).glob("*.json.gz"))]
    table = published.repeated_table(repeated)
    assert len(table.rows) == 11
    assert all(str(row[-1]).startswith("0 of ") for row in table.rows[1:])
    # And they all conclude the same.
    assert len({str(row[3]) for row in table.rows}) == 1


def test_packed_results_are_read_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = sorted((_ROOT / published.REPEATED).glob("*.json.gz"))[0]
    assert results.read(path).units
    damaged = tmp_path / "damaged.json.gz"
    for content in (path.read_bytes()[:1000], b"{}", path.read_bytes()[:500] + bytes(500) + path.read_bytes()[1000:]):
        damaged.write_bytes(content)
        with pytest.raises(ResultsError, match=r"damaged\.json\.gz is no whole gzip file"):
            results.read(damaged)
