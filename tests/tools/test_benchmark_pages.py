"""The pages about this project's own benchmark follow from its raw results."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pneumo_edge.benchmarks import results, verdict
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring import scores
from tools import answer, benchmark_pages

_ROOT = Path(__file__).parents[2]


def test_the_pages_follow_from_the_raw_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (
        benchmark_pages.FULL,
        benchmark_pages.REPEATED,
        benchmark_pages.SCORES,
        benchmark_pages.README,
        benchmark_pages.ANSWER,
        benchmark_pages.PAGE,
        "pyproject.toml",
    ):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (_ROOT / path).is_dir() else shutil.copy)(_ROOT / path, target)
    monkeypatch.chdir(tmp_path)
    benchmark_pages.main()
    for path in (benchmark_pages.README, benchmark_pages.ANSWER, benchmark_pages.PAGE, benchmark_pages.MARKDOWN):
        assert path.read_text(encoding="utf-8") == (_ROOT / path).read_text(encoding="utf-8"), (
            f"{path} is not what `make benchmark-pages` makes"
        )


def test_no_neighbours_of_the_repeated_runs_raise_an_alarm() -> None:
    repeated = [summarise(results.read(path)) for path in sorted((_ROOT / benchmark_pages.REPEATED).glob("*.json.gz"))]
    table = benchmark_pages.repeated_table(repeated)
    assert len(table.rows) == 11
    assert all(str(row[-1]).startswith("0 of ") for row in table.rows[1:])
    # All runs reach the same conclusions.
    assert len({str(row[3]) for row in table.rows}) == 1


def test_packed_results_are_read_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = sorted((_ROOT / benchmark_pages.REPEATED).glob("*.json.gz"))[0]
    assert results.read(path).units
    damaged = tmp_path / "damaged.json.gz"
    for content in (path.read_bytes()[:1000], b"{}", path.read_bytes()[:500] + bytes(500) + path.read_bytes()[1000:]):
        damaged.write_bytes(content)
        with pytest.raises(ResultsError, match=r"damaged\.json\.gz is not a complete gzip file"):
            results.read(damaged)


def test_the_answer_is_six_sentences_that_rest_on_every_training() -> None:
    found = summarise(results.read(_ROOT / benchmark_pages.FULL))
    told = answer.answer(found, verdict.decide(found), scores.read(_ROOT / benchmark_pages.SCORES))
    assert len(re.findall(r"[.](?: |$)", told)) <= 6
    # The differences in AUC by seed, which are not separable.
    assert "over 3 trainings of each" in told
    assert "-0.009, +0.010 and +0.000 by seed" in told
    assert "the two are not separable at a margin of 0.01" in told
    assert "so one training of each can favour either" in told
    # Wall time with two threads, the reason for a slow file, and the files that are not eligible.
    assert "with 2 threads, by wall time" in told
    assert "XNNPACK took 1 of 107 operators" in told
    assert "integer-only files are small and fast but not eligible" in told


def test_the_brief_answer_is_three_sentences_with_the_same_numbers() -> None:
    found = summarise(results.read(_ROOT / benchmark_pages.FULL))
    told = answer.brief(found, verdict.decide(found), scores.read(_ROOT / benchmark_pages.SCORES))
    assert len(re.findall(r"[.](?: |$)", told)) == 3
    assert "0.53 to 0.56 times the size" in told and "faster in 33 of 36 comparisons" in told
    assert "not separable at a margin of 0.01" in told and "by +0.000 [-0.023, +0.023] in fp32" in told


def test_over_trainings_the_outcome_goes_by_the_margin() -> None:
    found = scores.read(_ROOT / benchmark_pages.SCORES)
    for file_format in ("fp32", "int8"):
        over = answer.over_trainings(found, file_format)
        assert sorted(over.by_seed) == [0, 1, 2]
        assert over.mean.value == pytest.approx(sum(each.value for each in over.by_seed.values()) / 3)
        assert over.outcome == "not separable"
    turned = replace(
        found,
        files=tuple(
            replace(file, probabilities=tuple(1 - each for each in file.probabilities))
            if file.model.backbone == "mobilenetv2"
            else file
            for file in found.files
        ),
    )
    assert answer.over_trainings(turned, "fp32").outcome == "refuted"
