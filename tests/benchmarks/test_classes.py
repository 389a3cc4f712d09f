"""Results of more than two classes, from the raw file to summary, verdict, choice, comparison and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from pneumo_edge._util import markdown
from pneumo_edge.benchmarks import choice, comparison, verdict
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.report import brief, html
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.errors import ResultsError
from tests.benchmarks.conftest import MakeResults
from tests.present import present

#: Any text may be a class.
_NAMES = ("NORMAL", "two words | <b>bold</b>", "=1+1")
_IMAGES = 600
Change = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def _three_classes(results: Results, change: Change = lambda scores: scores, seed: int = 1) -> Results:
    """The same run on images of three classes, which both backbones tell apart alike."""
    labels = {f"test/{index}": index % 3 for index in range(_IMAGES)}
    random = np.random.default_rng(seed)
    logits = random.normal(size=(_IMAGES, 3)) + 3 * np.eye(3)[list(labels.values())]
    shares = change(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    by_class = {name: tuple(row) for name, row in zip(labels, shares.tolist(), strict=True)}
    return replace(
        results,
        test_set=replace(
            present(results.test_set), class_names=_NAMES, labels=labels, patients={name: name for name in labels}
        ),
        models=tuple(replace(model, threshold=None) for model in results.models),
        units=tuple(replace(unit, probabilities={}, class_probabilities=by_class) for unit in results.units),
    )


def test_results_of_three_classes_are_read_as_they_were_written(make_results: MakeResults, tmp_path: Path) -> None:
    results = _three_classes(make_results())
    raw.write(tmp_path / "results.json", results)
    assert raw.read(tmp_path / "results.json") == results


def test_the_numbers_of_three_classes_are_those_of_scikit_learn(make_results: MakeResults) -> None:
    summary = summarise(_three_classes(make_results()))
    row = summary.rows[0]
    labels, scores = summary.labels, summary.scores(row)
    assert present(row.accuracy).auc.value == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"))
    assert present(row.accuracy).confusion.accuracy.value == pytest.approx(np.mean(scores.argmax(axis=1) == labels))
    expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert present(row.accuracy).confusion.sensitivity.value == pytest.approx(expected)
    assert set(summary.class_counts.values()) == {200} and not summary.shortage


def test_files_that_answer_alike_are_as_accurate_by_macro_auc(make_results: MakeResults) -> None:
    summary = summarise(_three_classes(make_results()))
    claims = [claim for claim in verdict.decide(summary).claims if claim.property == "as accurate"]
    assert {claim.outcome for claim in claims} == {"supported"}


def test_a_file_that_mixes_up_two_classes_is_not_as_accurate(make_results: MakeResults) -> None:
    """One against the rest, the third class is told as before: the mean over the classes shows the loss."""
    results = _three_classes(make_results())
    worse = _three_classes(make_results(), _mix_up)
    units = tuple(
        other if "mobilenetv2" in unit.unit.model else unit
        for unit, other in zip(results.units, worse.units, strict=True)
    )
    summary = summarise(replace(results, units=units))
    claims = [claim for claim in verdict.decide(summary).claims if claim.property == "as accurate"]
    assert {claim.outcome for claim in claims} == {"refuted"}
    best = choice.choose(summary, choice.Limits()).best
    assert best and best.model.backbone == "efficientnetb0"


def _mix_up(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mean = shares[:, 1:].mean(axis=1, keepdims=True)
    return np.hstack([shares[:, :1], mean, mean])


def test_a_limit_of_sensitivity_is_for_the_mean_over_the_classes(make_results: MakeResults) -> None:
    chosen = choice.choose(summarise(_three_classes(make_results())), choice.Limits(sensitivity=0.999))
    assert chosen.best is None
    assert all("its mean sensitivity is" in reasons[0] for _, reasons in chosen.ruled_out)


def test_two_runs_of_three_classes_are_compared(make_results: MakeResults) -> None:
    before = summarise(_three_classes(make_results()))
    same = comparison.compare(before, summarise(_three_classes(make_results())))
    for unit in same.units:
        assert unit.findings["AUC"].why == unit.findings["accuracy"].why == "the same answers"
        assert "sensitivity" not in unit.findings
    worse = comparison.compare(before, summarise(_three_classes(make_results(), _mix_up)))
    assert all({"AUC", "accuracy"} <= set(unit.regressions) for unit in worse.units)


def test_the_report_of_three_classes_names_its_means_and_escapes_its_classes(make_results: MakeResults) -> None:
    runs = gather([summarise(_three_classes(make_results()))])
    report = compose(runs)
    text, page = markdown.render(report), html.render(report)
    assert "Macro AUC" in text and "Mean sensitivity" in text
    assert "<b>bold</b>" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold</b>" not in text
    assert "Macro AUC" in brief.table(runs).columns


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: d["units"][0]["class_probabilities"].update({"test/0": [0.5, 0.5]}),
            "not a probability of each of 3",
        ),
        (lambda d: d["units"][0].update(class_probabilities=None), "different images"),
        (lambda d: d["models"][0].update(threshold=0.5), "another task than 3 classes"),
        (lambda d: d["test_set"]["labels"].update({"test/0": 3}), "a label is 3, not within 0 to 2"),
    ],
)
def test_results_that_contradict_themselves_are_refused(
    damage: Callable[[dict[str, object]], None], message: str, make_results: MakeResults, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    raw.write(path, _three_classes(make_results()))
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ResultsError) as error:
        raw.read(path)
    assert message in str(error.value)


def test_the_positive_class_may_be_the_first(make_results: MakeResults) -> None:
    """The same answers, whichever way round the classes of the data set stand."""
    results = make_results()
    test_set = present(results.test_set)
    turned = replace(
        test_set,
        class_names=test_set.class_names[::-1],
        labels={name: 1 - label for name, label in test_set.labels.items()},
        positive_class="PNEUMONIA",
    )
    before, after = summarise(results), summarise(replace(results, test_set=turned))
    assert [row.accuracy for row in after.rows] == [row.accuracy for row in before.rows]
    assert after.class_counts == before.class_counts
