"""The tables of the preregistered networks: every number from the scores, against independent implementations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel, write
from pneumo_edge.spec import ConformalSpec
from tools import robust_scores

_SEEDS = 4
_OTHERS, _BLOCK, _SICK = 30, 10, 60


def _names() -> list[str]:
    others = [f"test/NORMAL/IM-{number:04}-0001.jpeg" for number in range(_OTHERS - 2)]
    edges = [f"test/NORMAL/NORMAL2-IM-{number:04}-0001.jpeg" for number in (194, 268)]
    block = [f"test/NORMAL/NORMAL2-IM-{number:04}-0001.jpeg" for number in range(195, 195 + _BLOCK - 1)]
    sick = [f"test/PNEUMONIA/person{number}_virus_1.jpeg" for number in range(_SICK)]
    return [*others, *edges, *block, "test/NORMAL/NORMAL2-IM-0267-0001-0002.jpeg", *sick]


def _scores(recipe: str) -> EvaluationScores:
    names, random = _names(), np.random.default_rng(0 if recipe == "best" else 1)
    labels = np.array(["PNEUMONIA" in name for name in names], dtype=int)
    images = tuple(ScoredImage(name, int(label), name, "") for name, label in zip(names, labels, strict=True))
    data = ImageSet("test", True, "", ("NORMAL", "PNEUMONIA"), "test", True, "f" * 64, {}, images, "PNEUMONIA")
    files: list[FileScores] = []
    for backbone in ("mobilenetv2", "efficientnetb0"):
        for seed in range(_SEEDS):
            for form in ("fp32", "int8"):
                probabilities = np.clip(random.normal(0.3 + 0.4 * labels, 0.2), 0, 1)
                validation = {name: float(random.uniform(0.9, 1)) for name in robust_scores.PREDICTORS}
                model = ScoredModel(
                    f"{backbone}-{form}.tflite", f"{len(files):064x}", 1000, backbone, form, recipe, seed, "random",
                    "x", True, 0.4 + 0.05 * seed, "rule", "validation", 1.0, "litert", "1", validation,
                )  # fmt: skip
                sets = ConformalSpec(0.95, 0.4, 0.7, {}, "validation")
                files.append(FileScores(model, tuple(map(float, probabilities)), conformal=sets))
    return EvaluationScores(data, (), tuple(files))


def _cells(table: str) -> list[dict[str, str]]:
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_means_are_those_of_independent_implementations() -> None:
    metrics, stats = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.stats")
    scores = _scores("robust")
    labels = scores.data.targets
    rows = _cells(robust_scores.means(scores))
    assert [(row["network"], row["format"]) for row in rows][:2] == [
        ("EfficientNetB0", "`fp32`"),
        ("EfficientNetB0", "`int8`"),
    ]
    for row, (backbone, form) in zip(
        rows, [(b, f) for b in ("efficientnetb0", "mobilenetv2") for f in ("fp32", "int8")], strict=True
    ):
        files = [file for file in scores.files if (file.model.backbone, file.model.format) == (backbone, form)]
        areas = [metrics.roc_auc_score(labels, file.probabilities) for file in files]
        low, high = stats.t.interval(0.95, len(areas) - 1, np.mean(areas), stats.sem(areas))
        assert row["AUC"] == f"{np.mean(areas):.4f} [{low:.4f}, {high:.4f}]"
        right = [metrics.accuracy_score(labels, np.array(file.probabilities) >= file.model.threshold) for file in files]
        assert row["accuracy"].startswith(f"{np.mean(right):.3f} [")
        assert row["aim"] == "missed: AUC and accuracy"


def test_uncertain_answers_are_counted_at_the_bounds_of_each_file() -> None:
    scores = _scores("robust")
    labels = scores.data.targets
    row = _cells(robust_scores.uncertain(scores))[-1]
    files = [file for file in scores.files if (file.model.backbone, file.model.format) == ("mobilenetv2", "int8")]
    of_file = [np.array(file.probabilities) for file in files]
    thresholds = [file.model.threshold or 0.0 for file in files]
    # From 0.4 to 0.7, where the thresholds are, the sets have both classes.
    flagged = [(values >= 0.4) & (values <= 0.7) for values in of_file]
    wrong = [(values >= limit) != labels for values, limit in zip(of_file, thresholds, strict=True)]
    assert row["uncertain"].startswith(f"{np.mean(flagged):.3f} [")
    errors = [uncertain[of].mean() for uncertain, of in zip(flagged, wrong, strict=True)]
    assert row["errors that are uncertain"].startswith(f"{np.mean(errors):.3f} [")
    normal, ill = (np.mean([kept.mean() for kept in each]) for each in (
        [values[labels == 0] <= 0.7 for values in of_file], [values[labels == 1] >= 0.4 for values in of_file],
    ))  # fmt: skip
    assert row["coverage, NORMAL"].startswith(f"{normal:.3f} [")
    assert row["coverage, PNEUMONIA"].startswith(f"{ill:.3f} [")


def test_the_block_is_told_by_the_names_and_the_bundled_seed_by_validation() -> None:
    before, after = _scores("best"), _scores("robust")
    inside = robust_scores.in_block(after)
    assert inside.sum() == _BLOCK
    assert {name for name, chosen in zip(_names(), inside, strict=True) if chosen} <= {
        name for name in _names() if "NORMAL2" in name
    }
    chosen = {name: robust_scores.bundled(after, name) for name in ("mobilenetv2", "efficientnetb0")}
    rows = _cells(robust_scores.block(before, after))
    assert [row["recipe"] for row in rows] == ["`best`", "`robust`"] * 2
    (file,) = (
        file
        for file in after.files
        if (file.model.backbone, file.model.format, file.model.seed) == ("mobilenetv2", "int8", chosen["mobilenetv2"])
    )
    normal = after.data.targets == 0
    right = int((np.array(file.probabilities)[inside & normal] < file.model.threshold).sum())
    assert rows[3]["specificity on the block"].startswith(f"{right} of {_BLOCK}: ")
    marked = [row for row in _cells(robust_scores.seeds(after)) if row["bundled"] == "yes"]
    assert {(row["network"], row["seed"], row["format"]) for row in marked} == {
        ("MobileNetV2", str(chosen["mobilenetv2"]), "`int8`"),
        ("EfficientNetB0", str(chosen["efficientnetb0"]), "`int8`"),
    }


def test_ranks_are_compared_as_scipy_does() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    first = random.normal(size=15)
    second = first + random.normal(size=15)
    found = robust_scores.spearman(first.tolist(), second.tolist())
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    # SciPy's interval resamples; both hold most of the same values.
    resampled = stats.bootstrap(
        (first, second), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False, n_resamples=999,
        method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    assert abs(found.low - resampled.low) < 0.25
    assert abs(found.high - resampled.high) < 0.15


def test_the_page_of_the_repository_is_that_of_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    if not (root / robust_scores.RESULTS).exists():
        pytest.skip("no network was scored yet: there is no results/robust")
    page = tmp_path / "page.md"
    page.write_text((root / robust_scores.PAGE).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setattr(robust_scores, "PAGE", page)
    robust_scores.main()
    assert page.read_text(encoding="utf-8") == (root / "docs/shortcuts.md").read_text(encoding="utf-8")


def test_no_mean_is_computed_before_all_networks_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = _scores("robust")
    for number, seed in enumerate(range(_SEEDS)):
        files = tuple(file for file in scored.files if file.model.seed == seed)
        write(tmp_path / f"{number}.json", replace(scored, files=files))
    together = robust_scores.read_runs(tmp_path)
    assert {file.model.sha256 for file in together.files} == {file.model.sha256 for file in scored.files}

    text = robust_scores.text(_scores("best"), together)
    assert "Missing, with their seeds: EfficientNetB0 4, EfficientNet-Lite0 0," in text
    rows = _cells(text.partition("\n\n")[2])
    assert len(rows) == len(scored.files) and not any(row["bundled"] for row in rows)
    assert "aim" not in text

    monkeypatch.setattr(robust_scores, "BACKBONES", ("mobilenetv2", "efficientnetb0"))
    monkeypatch.setattr(robust_scores, "SEEDS", _SEEDS)
    assert robust_scores.means(scored) in robust_scores.text(_scores("best"), together)


def test_runs_scored_on_different_images_are_not_put_together(tmp_path: Path) -> None:
    scored = _scores("robust")
    other = replace(scored, data=replace(scored.data, fingerprint="0" * 64))
    write(tmp_path / "0.json", scored)
    write(tmp_path / "1.json", other)
    with pytest.raises(ResultsError, match=r"1\.json is not about the images of"):
        robust_scores.read_runs(tmp_path)
    with pytest.raises(ResultsError, match="has no scores"):
        robust_scores.read_runs(tmp_path / "none")
