"""The pages about this project's own benchmark follow from its raw results."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pneumo_edge.benchmarks import networks, results
from pneumo_edge.benchmarks.report.runs import Run, gather
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring import scores
from tests.present import present
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


@pytest.fixture(scope="module")
def run() -> Run:
    (found,) = gather(
        [summarise(results.read(_ROOT / benchmark_pages.FULL))], scores.read(_ROOT / benchmark_pages.SCORES)
    )
    return found


def test_the_answer_is_six_sentences_that_rest_on_every_training(run: Run) -> None:
    told = answer.answer(run.summary, run.verdict, present(run.networks))
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


def test_the_brief_answer_tells_speed_size_and_accuracy_with_intervals(run: Run) -> None:
    told = answer.brief(run.summary, present(run.networks))
    assert len(re.findall(r"[.](?: |$)", told)) <= 6
    assert "1.96 [1.95, 1.97] times as fast as EfficientNetB0's with one thread" in told
    assert "1.93 [1.81, 2.05] times with two threads" in told
    assert "faster in 33 of 36 comparisons, and slower in dynamic on litert (0.95 [0.94, 0.95])" in told
    assert "0.53 to 0.56 times the size" in told
    assert "The difference in accuracy cannot be told: over 3 trainings of each" in told
    assert "by +0.000 [-0.011, +0.012] in fp32 and by -0.005 [-0.014, +0.005] in int8" in told


def test_the_brief_answer_has_two_more_sentences_for_a_third_network(run: Run) -> None:
    """Here EfficientNetB0 once more, with worse answers and under the name of EfficientNet-Lite0."""
    measured, scored = run.summary.results, scores.read(_ROOT / benchmark_pages.SCORES)

    def renamed(name: str) -> str:
        return name.replace("efficientnetb0", "efficientnetlite0")

    more = replace(
        measured,
        models=(
            *measured.models,
            *(
                replace(model, file=renamed(model.file), backbone="efficientnetlite0")
                for model in measured.models
                if model.backbone == "efficientnetb0"
            ),
        ),
        units=(
            *measured.units,
            *(
                replace(unit, unit=replace(unit.unit, model=renamed(unit.unit.model)))
                for unit in measured.units
                if "efficientnetb0" in unit.unit.model
            ),
        ),
    )
    third = tuple(
        replace(
            file,
            model=replace(file.model, backbone="efficientnetlite0", sha256=f"third {file.model.sha256}"),
            probabilities=tuple(1 - each for each in file.probabilities),
        )
        for file in scored.files
        if file.model.backbone == "efficientnetb0"
    )
    (found,) = gather([summarise(more)], replace(scored, files=(*scored.files, *third)))
    told = answer.brief(found.summary, present(found.networks))
    assert len(re.findall(r"[.](?: |$)", told)) == 6
    assert "as fast as EfficientNet-Lite0's with one thread" in told
    assert "times the size of EfficientNet-Lite0's" in told
    assert told.count("The difference in accuracy cannot be told") == 1
    assert told.count("The difference in accuracy can be told in fp32 and int8") == 1


def test_over_trainings_the_outcome_goes_by_the_margin(run: Run) -> None:
    for file_format in ("fp32", "int8"):
        over = answer.over_trainings(run.summary, present(run.networks), file_format)
        assert sorted(over.by_seed) == [0, 1, 2] and over.trainings == (3, 3)
        assert over.difference.value == pytest.approx(sum(each.value for each in over.by_seed.values()) / 3)
        assert over.outcome == "not separable"
    scored = scores.read(_ROOT / benchmark_pages.SCORES)
    turned = replace(
        scored,
        files=tuple(
            replace(file, probabilities=tuple(1 - each for each in file.probabilities))
            if file.model.backbone == "mobilenetv2"
            else file
            for file in scored.files
        ),
    )
    assert answer.over_trainings(run.summary, networks.decide(run.summary, turned), "fp32").outcome == "refuted"
