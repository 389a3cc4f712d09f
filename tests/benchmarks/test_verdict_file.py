"""``verdict.json``: the numbers of a verdict for programs, refused where it does not hold together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks import sentences, verdict, verdict_file
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.errors import ExitCode, ResultsError

MakeResults = Callable[..., Results]


def made(results: Results, folder: Path) -> verdict_file.VerdictRecord:
    """The verdict, written and read again."""
    raw.write(folder / "results.json", results)
    summary = summarise(results)
    record = verdict_file.of(summary, verdict.decide(summary), folder / "results.json")
    verdict_file.write(folder / "verdict.json", record)
    assert verdict_file.read(folder / "verdict.json") == record
    return record


def test_it_says_in_numbers_what_the_sentences_say(make_results: MakeResults, tmp_path: Path) -> None:
    results = make_results(speeds={"efficientnetb0": 8, "mobilenetv2": 5})
    record, decided = made(results, tmp_path), verdict.decide(summarise(results))
    assert len(record.claims) == len(decided.claims) > 0
    for found, claim in zip(record.claims, decided.claims, strict=True):
        assert (found.asked.property, found.outcome) == (claim.property, claim.outcome)
        assert (found.subject.file, found.other.file) == (claim.subject.model.file, claim.other.model.file)
        # Who has the file alone can make the sentence.
        assert sentences.evidence(found.asked.property, found.evidence) == found.sentence
    faster = next(claim for claim in record.claims if claim.asked.property == "faster")
    assert faster.effect and faster.evidence.time and faster.effect.high is not None
    assert faster.effect == faster.evidence.time.by_clock["cpu"]
    assert faster.effect.low < faster.effect.value < faster.effect.high
    assert f"{faster.effect.value:.2f} times as fast" in faster.sentence
    assert (faster.asked.reference, faster.asked.margin, faster.threads) == ("efficientnetb0", 0.01, 1)
    assert {unit.file for unit in record.pareto} <= {model.file for model in results.models}
    assert record.basis.results_sha256 == sha256((tmp_path / "results.json").read_bytes()).hexdigest()
    assert record.basis.images == summarise(results).class_counts


def test_what_is_open_says_why_and_an_infinite_end_is_none(make_results: MakeResults, tmp_path: Path) -> None:
    few = made(make_results(speeds={"efficientnetb0": 80, "mobilenetv2": 40}, processes=1), tmp_path)
    faster = next(claim for claim in few.claims if claim.asked.property == "faster")
    assert (faster.outcome, faster.why_open) == ("not separable", "noise not known")
    assert faster.effect and faster.effect.high is None
    assert "[0.00, inf]" in faster.sentence
    assert faster.evidence.time and faster.evidence.time.aa_unit and faster.evidence.time.aa_band is None
    # No unit can rank, and each says what its timing lacks.
    assert few.pareto == () and all(each.shortfalls for each in few.unranked)
    assert len(few.unranked) == len(make_results().units)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(schema_version=2), "has schema 2"),
        (lambda d: d["claims"][0].pop("evidence"), r"the field claims\[0\].evidence is missing"),
        (lambda d: d["claims"][0].update(outcome="likely"), r"claims\[0\].outcome is \"likely\""),
        (lambda d: d["claims"][0].update(outcome="not separable", why_open=None), "why_open is None"),
        (lambda d: d["claims"].append(d["claims"][0]), "occurs 2 times"),
        (
            lambda d: d["unranked"].append({"unit": d["pareto"][0], "shortfalls": [], "missed_gate": None}),
            "without a reason",
        ),
        (lambda d: d["unranked"].append({"unit": d["pareto"][0], "shortfalls": ["x"], "missed_gate": None}), "pareto"),
        (lambda d: d["basis"].update(patients=-1), "basis.patients is -1, not at least 0"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    make_results: MakeResults, tmp_path: Path, change: Callable[[Any], Any], told: str
) -> None:
    made(make_results(speeds={"efficientnetb0": 8, "mobilenetv2": 5}), tmp_path)
    document = json.loads((tmp_path / "verdict.json").read_text())
    change(document)
    (tmp_path / "verdict.json").write_text(json.dumps(document))
    with pytest.raises(ResultsError, match=told):
        verdict_file.read(tmp_path / "verdict.json")


def test_report_makes_it_of_one_results_file(make_results: MakeResults, tmp_path: Path) -> None:
    expected = made(make_results(), tmp_path)

    def report(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pneumo_edge", "report", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = report("results.json", "-o", "again.json")
    assert done.returncode == 0, done.stderr
    assert verdict_file.read(tmp_path / "again.json") == expected
    refused = report("results.json", "verdict.json", "-o", "both.json")
    assert refused.returncode == ExitCode.USAGE
    assert "a verdict is made from one results file, not 2" in " ".join(refused.stderr.split())
    # Raw results are never written over.
    assert report("results.json", "-o", "results.json").returncode == ExitCode.USAGE
    assert raw.read(tmp_path / "results.json") == make_results()


def test_a_verdict_given_as_results_is_named_as_one(make_results: MakeResults, tmp_path: Path) -> None:
    made(make_results(), tmp_path)
    with pytest.raises(ResultsError, match=r"the verdict of a benchmark, not its raw results.*results\.json beside it"):
        raw.read(tmp_path / "verdict.json")


def test_a_verdict_overwrites_no_other_file(make_results: MakeResults, tmp_path: Path) -> None:
    raw.write(tmp_path / "results.json", make_results(speeds={"efficientnetb0": 8, "mobilenetv2": 5}))
    other = tmp_path / "scores.json"
    other.write_text('{"of": "another command"}')
    command = [sys.executable, "-m", "pneumo_edge", "report", str(tmp_path / "results.json"), "--out"]
    refused = subprocess.run([*command, str(other)], capture_output=True, text=True, check=False)
    assert refused.returncode == ExitCode.USAGE and "not a verdict" in refused.stderr
    assert other.read_text() == '{"of": "another command"}'
    for _ in range(2):
        done = subprocess.run([*command, str(tmp_path / "new.json")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
