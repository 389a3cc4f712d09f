"""The summary of a scored data set, from the files of its shards."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge import Classifier
from pneumo_edge._util import records
from pneumo_edge.cli import app
from pneumo_edge.evaluation import drift
from pneumo_edge.runtime.classifier import Prediction, Timings
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import figures, rows, summary
from pneumo_edge.scale.summary import NO_ANSWER, NO_DISTRIBUTION, Summary, summarise
from pneumo_edge.spec import ConformalSpec, InputCheckSpec, ModelSpec, OutputSpec
from pneumo_edge.spec.attaching import attach
from tests.scale import archives
from tests.specs import make_spec

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

_TIMINGS = Timings(*6 * (1.0,))
_PREDICTOR = PredictorIdentity(
    "m", "0" * 64, "litert", "2.1", ("NORMAL", "PNEUMONIA"), "PNEUMONIA", remarks=True, strict=False
)


def _spec(described: bool = True) -> ModelSpec:
    random = np.random.default_rng(7)
    distribution = drift.describe(
        {"PNEUMONIA": random.beta(1, 2, 400)}, random.normal(1, 0.2, 400), range(400), "a test"
    )
    return replace(
        make_spec("tiny", "fp32"),
        outputs=(OutputSpec("components", (1,), "of a test"),),
        input_check=InputCheckSpec((0.0,), (1.0,), (1,), 1.5, 0.99, "a test"),
        conformal=ConformalSpec(0.95, 0.4, 0.6, {"NORMAL": 3, "PNEUMONIA": 3}, "a test"),
        validation_distribution=distribution if described else None,
    )


def _rows(folder: str, images: int, seed: int, shift: float = 0.0, day: str | None = None) -> list[rows.Row]:
    random = np.random.default_rng(seed)
    found = []
    for number in range(images):
        probability, distance = float(random.beta(1, 2)), float(random.normal(1 + shift, 0.2))
        label = "PNEUMONIA" if probability >= 0.5 else "NORMAL"
        prediction = Prediction(
            "x", label, {"NORMAL": 1 - probability, "PNEUMONIA": probability}, 0.5, _TIMINGS,
            prediction_set=(label,) if number else (), distance=distance, limit=1.5,
        )  # fmt: skip
        found.append(rows.classified(f"{folder}/{number}.png", 0, day, 1.0, prediction))
    return found


def _shards(*found: Sequence[rows.Row]) -> list[io.BytesIO]:
    return [
        io.BytesIO(rows.to_parquet(list(each), rows.count(shard, each, 2.0), _PREDICTOR))
        for shard, each in enumerate(found)
    ]


def test_counts_shares_and_speed_are_those_of_the_rows() -> None:
    broken = [rows.failed(f"b/{name}.png", 1, None, "ImageError", f"{name} is no image") for name in "wxyz"]
    first, second = _rows("a", 120, 1), [*_rows("b", 60, 2), *broken]
    found = summarise(_shards(first, second), _spec())
    labels = [row["label"] for row in first + second if row["label"]]
    assert (found.images, found.answered) == (184, 180)
    assert [each.name for each in found.failed] == ["b/w.png", "b/x.png", "b/y.png"]
    assert found.failed[0].error == "w is no image"
    assert found.labels == {name: labels.count(name) for name in ("NORMAL", "PNEUMONIA")}
    assert (found.uncertain, found.errors, found.seconds) == (2, {"ImageError": 4}, 4.0)
    assert found.images_per_core_second == 184 / 4
    assert found.out_of_distribution == sum(bool(row["out_of_distribution"]) for row in first + second)
    assert found.grouped_by == "folder"
    assert [(each.name, each.images, each.errors) for each in found.groups] == [("a", 120, 0), ("b", 64, 4)]
    assert found.distance_counts and sum(found.distance_counts) == 180
    told = list(summary.lines(found))
    # Of the images with an answer, not of those that could not be read.
    assert told[0].startswith(f"out-of-distribution: {found.out_of_distribution / 180:.1%};")
    assert told[-1] == "drift by folder: 0 of 2 with at least 50 images"
    assert records.loads(Summary, records.document(found)) == found


def test_drift_is_found_on_the_day_that_has_it() -> None:
    days = [_rows("a", 150, day, shift=0.2 * (day == 2), day=f"2024-05-0{day}") for day in (1, 2, 3)]
    spec = _spec()
    found = summarise(_shards(*days), spec)
    drifting = [(each.number, each.group) for each in found.drift if each.drift]
    assert found.grouped_by == "day" and ("distance", "2024-05-02") in drifting
    assert {group for _, group in drifting} <= {None, "2024-05-02"}
    *_, probability, by_day = summary.lines(found)
    assert by_day == "drift by day: 1 of 3 with at least 50 images: 2024-05-02"
    assert probability.startswith("no drift of the probability of PNEUMONIA: Kolmogorov-Smirnov statistic 0.")
    assert spec.validation_distribution
    with Image.open(io.BytesIO(figures.drift_figure(found, spec.validation_distribution))) as figure:
        assert figure.width > 900 and len(np.unique(np.asarray(figure.convert("L")))) > 50


def test_drift_of_a_few_images_cannot_be_told() -> None:
    found = summarise(_shards(_rows("a", 5, 1)), _spec())
    told = list(summary.lines(found))
    assert not any(line.startswith("no drift") for line in told)
    assert any(line.startswith("drift of the probability of PNEUMONIA: cannot be told: ") for line in told)


def test_what_a_file_does_not_measure_is_no_number() -> None:
    spec = _spec()
    assert spec.validation_distribution
    described = replace(spec.validation_distribution, distance=None)
    bare = replace(spec, outputs=(), input_check=None, conformal=None, validation_distribution=described)
    found = summarise(_shards(_rows("a", 60, 1), _rows("b", 60, 2)), bare)
    assert found.uncertain is found.out_of_distribution is None
    assert {(each.uncertain, each.out_of_distribution) for each in found.groups} == {(None, None)}
    assert next(summary.lines(found)).startswith("drift of the distance: not measured: this file carries no distances")


def test_many_folders_are_taken_together_by_the_folders_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MOST_GROUPS", 4)
    shards = [[row for study in range(3) for row in _rows(f"{site}/study{study}", 20, study)] for site in "abc"]
    found = summarise(_shards(*shards), _spec())
    assert [(each.name, each.images) for each in found.groups] == [("a", 60), ("b", 60), ("c", 60)]
    monkeypatch.setattr(summary, "MOST_GROUPS", 2)
    assert summarise(_shards(*shards), _spec()).groups == ()


def test_a_file_from_before_validation_distributions_says_so() -> None:
    found = summarise(_shards(_rows("a", 60, 1)), _spec(described=False))
    assert (found.drift, found.without_drift, found.out_of_distribution_expected) == ((), NO_DISTRIBUTION, 0.01)
    assert found.grouped_by is None and found.probability_counts == {}
    assert "drift: not measured: this file carries no validation distribution" in list(summary.lines(found))[-1]


def test_images_that_all_failed_have_no_drift() -> None:
    broken = [rows.failed(f"b/{number}.png", 0, None, "ImageError", "it is no image") for number in range(3)]
    found = summarise(_shards(broken), _spec())
    assert (found.without_drift, found.labels) == (NO_ANSWER, {"NORMAL": 0, "PNEUMONIA": 0})
    assert list(summary.lines(found)) == ["drift: not measured: no image was classified"]


def test_score_writes_the_summary_and_draws_the_drift(classifier: Classifier, tmp_path: Path) -> None:
    model = tmp_path / "drifting.tflite"
    random = np.random.default_rng(7)
    described = drift.describe({"PNEUMONIA": random.beta(1, 2, 400)}, random.normal(9, 0.2, 400), range(400), "a test")
    with zipfile.ZipFile(classifier.path) as packed:
        end = min(info.header_offset for info in packed.infolist())
    (tmp_path / "bare.tflite").write_bytes(classifier.path.read_bytes()[:end])
    attach(tmp_path / "bare.tflite", model, replace(classifier.spec, validation_distribution=described))
    archive = archives.draw(tmp_path / "images")
    command = ["score", str(archive), "--out", str(tmp_path / "out"), "--model", str(model), "--workers", "1"]
    first = CliRunner().invoke(app, command)
    (told,) = (line for line in first.stdout.splitlines() if line.startswith("drift of the distance: "))
    assert "Kolmogorov-Smirnov statistic" in told and ", p < 0.001), population stability index" in told, first.stderr
    (folder,) = (tmp_path / "out").glob("model=*")
    found = summary.read(str(folder))
    assert (found.images, found.errors) == (7, {"NotAnImageError": 1})
    assert [each.name for each in found.groups] == ["a", "a-b", "a/deep", "b", "c"]
    with Image.open(folder / summary.FIGURE) as figure:
        assert figure.format == "PNG"
    # It is made again where it is missing, and else read.
    (folder / summary.SUMMARY).unlink()
    again = CliRunner().invoke(app, command)
    assert again.stdout.splitlines()[1:] == first.stdout.splitlines()[1:-1], again.stderr
    assert summary.read(str(folder)) == found
    (folder / summary.SUMMARY).write_text("{}")
    damaged = CliRunner().invoke(app, command)
    assert damaged.exit_code == 3 and "_summary.json is not valid: the field images is missing" in damaged.stderr
