"""Networks with several trainings are compared over trainings and patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats  # noqa: TID253
from sklearn.metrics import roc_auc_score

from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN
from pneumo_edge.scoring import scores, summary

_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "results" / "evaluation"


def test_the_comparison_of_our_networks_is_that_of_scikit_learn_and_scipy() -> None:
    scored = scores.read(_RESULTS / "scores.json")
    labels = np.array([image.label for image in scored.data.images])
    names, patient_of = np.unique([image.patient for image in scored.data.images], return_inverse=True)
    compared = summary.read(_RESULTS / "metrics.json").networks
    assert {(each.first_backbone, each.second_backbone, each.format) for each in compared} == {
        ("efficientnetb0", "mobilenetv2", file_format) for file_format in ("fp32", "int8")
    }
    for each in compared:
        of = {
            backbone: [
                np.array(file.probabilities)
                for file in scored.files
                if (file.model.backbone, file.model.format) == (backbone, each.format)
            ]
            for backbone in (each.first_backbone, each.second_backbone)
        }
        everything = [*of[each.first_backbone], *of[each.second_backbone]]
        aucs = np.array([roc_auc_score(labels, probabilities) for probabilities in everything])
        covariance = np.zeros((len(everything), len(everything)))
        parts = {0: np.zeros((len(everything), len(names))), 1: np.zeros((len(everything), len(names)))}
        for place, probabilities in enumerate(everything):
            positive, negative = probabilities[labels == 1], probabilities[labels == 0]
            won = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
            for label, by_image in ((1, won.mean(axis=1)), (0, won.mean(axis=0))):
                share = (by_image - aucs[place]) / len(by_image)
                np.add.at(parts[label][place], patient_of[labels == label], share)
        for label in (0, 1):
            people = len(np.unique(patient_of[labels == label]))
            covariance += people / (people - 1) * parts[label] @ parts[label].T
        crossed = parts[0] @ parts[1].T
        covariance += len(names) / (len(names) - 1) * (crossed + crossed.T)

        one, two = np.arange(3), np.arange(3, 6)
        apart = ~np.eye(3, dtype=bool)
        shared = (
            covariance[np.ix_(one, one)][apart].mean()
            + covariance[np.ix_(two, two)][apart].mean()
            - 2 * covariance[np.ix_(one, two)].mean()
        )
        between = [aucs[one].var(ddof=1) / 3, aucs[two].var(ddof=1) / 3]
        variance = sum(between) + max(0.0, shared)
        freedom = variance**2 / sum(part**2 / 2 for part in between)
        difference = aucs[one].mean() - aucs[two].mean()
        half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
        assert each.auc.value == pytest.approx(difference, abs=1e-6)
        assert each.auc.value - each.auc.low == pytest.approx(each.auc.high - each.auc.value, abs=1e-9)
        # Between whole degrees of freedom ours is a little wider, never narrower.
        assert half - 1e-6 <= each.auc.high - each.auc.value <= 1.01 * half
        p = 2 * stats.t.sf(abs(difference) / np.sqrt(variance), freedom)
        assert each.different.p >= p - 1e-6 and each.different.outcome == "not separable"
        for leaning, sign in ((each.first_as_accurate, 1), (each.second_as_accurate, -1)):
            lower = sign * difference - half
            assert (lower > -ACCURACY_MARGIN) or leaning.outcome != "supported"


def test_files_from_before_networks_were_compared_are_read(tmp_path: Path) -> None:

    document = json.loads((_RESULTS / "metrics.json").read_bytes())
    del document["networks"]
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    assert summary.read(tmp_path / "metrics.json").networks == ()
