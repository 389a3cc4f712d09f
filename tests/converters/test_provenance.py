"""A run whose folder does not hold what training left is refused, with each way in which that may be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pneumo_edge import runs
from pneumo_edge.cli import app
from pneumo_edge.converters import isolated
from pneumo_edge.converters.export import export
from pneumo_edge.errors import ConversionError, DataError
from pneumo_edge.formats import FORMATS

pytestmark = pytest.mark.slow

_ROW = FORMATS["tflite-fp32"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be tampered with."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def _edit(run: Path, change: Callable[[dict[str, Any]], object], *, hashed: bool) -> None:
    """Change a run's record; ``hashed`` is whether it is one that knows its own hash and its network's."""
    path = run / runs.RECORD_NAME
    record = json.loads(path.read_bytes())
    if not hashed:
        del record["record_sha256"], record["model_sha256"]
    change(record)
    path.write_text(json.dumps(record))


def _negate_head(model: Path) -> None:
    """In the child process: exchange the classes of a trained network."""
    import keras

    whole = keras.saving.load_model(model, compile=False)
    layer = whole.get_layer("logits")
    layer.set_weights([-weights for weights in layer.get_weights()])
    whole.save(model)


def _refused(run: Path, phantom: Path, tmp_path: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        list(export(run, [_ROW], tmp_path / "models", phantom / "cache"))
    assert not list((tmp_path / "models").glob("*.tflite"))
    return str(caught.value)


@pytest.mark.parametrize("hashed", [True, False])
def test_a_changed_network_is_refused(
    hashed: bool, run: Path, phantom: Path, converter: isolated.Child, tmp_path: Path
) -> None:
    converter.call(_negate_head, run / runs.MODEL_NAME)
    if not hashed:
        _edit(run, lambda record: None, hashed=False)
    said = _refused(run, phantom, tmp_path)
    assert runs.MODEL_NAME in said and ("SHA-256" in said or "validation.csv" in said)
    assert ("differ by up to" in said) != hashed


def test_the_command_names_a_changed_network(
    run: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(phantom / "cache"))
    model = run / runs.MODEL_NAME
    model.write_bytes(model.read_bytes() + b"\0")
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "models")])
    assert done.exit_code == 3
    assert len(done.stderr.splitlines()) == 1 and str(model) in done.stderr


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["decision"].update(threshold=0.9), "threshold"),
        (lambda record: record["decision"].update(rule="by feeling"), "threshold"),
        (lambda record: record["training"]["validation"].update(auc=0.5), "auc"),
        (lambda record: record["data"].update(fingerprint="0" * 64), "split"),
    ],
    ids=["threshold", "rule", "auc", "fingerprint"],
)
def test_an_edited_record_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, hashed: bool, run: Path, phantom: Path, tmp_path: Path
) -> None:
    _edit(run, change, hashed=hashed)
    assert ("was changed" if hashed else message) in _refused(run, phantom, tmp_path)


def test_an_edited_temperature_is_refused(run: Path) -> None:
    _edit(run, lambda record: record.update(temperature=3.0), hashed=True)
    with pytest.raises(ConversionError, match=r"run\.json was changed"):
        runs.load(run)


def test_moved_data_and_fields_of_another_version_are_no_change(run: Path) -> None:
    before = runs.load(run)
    _edit(run, lambda record: record.update(data_path="/elsewhere"), hashed=True)
    assert runs.load(run) == replace(before, data_path="/elsewhere")
    with pytest.raises(DataError, match=r"is not at /elsewhere any more; .* Give the new path with --data"):
        list(export(run, [_ROW], run / "models", run / "cache", None))
    record = json.loads((run / runs.RECORD_NAME).read_bytes())
    del record["record_sha256"]
    record["of_a_later_version"] = [1.5]
    (run / runs.RECORD_NAME).write_text(json.dumps(record | {"record_sha256": runs._sha256(record)}))
    assert runs.load(run).temperature == before.temperature


def _another_runs(text: str) -> str:
    head, *rows = text.splitlines()
    turned = [row.rsplit(",", 1) for row in rows]
    return "\n".join([head, *(f"{start},{1 - float(score):.9g}" for start, score in turned)]) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_another_runs, "threshold"),
        (lambda text: text[: len(text) // 2], "validation.csv"),
        (lambda text: text.replace(",0,", ",1,", 1), "labels"),
        (lambda text: "", "validation.csv"),
        (lambda text: text.replace("probability", "p"), "cannot be read"),
    ],
    ids=["another run's", "cut short", "label", "empty", "column"],
)
def test_another_validation_file_is_refused(
    change: Callable[[str], str], message: str, run: Path, phantom: Path, tmp_path: Path
) -> None:
    path = run / runs.VALIDATION_NAME
    path.write_text(change(path.read_text()))
    assert message in _refused(run, phantom, tmp_path)


@pytest.mark.parametrize("name", [runs.VALIDATION_NAME, runs.MANIFEST_NAME, runs.MODEL_NAME])
def test_a_missing_file_is_named(name: str, run: Path, phantom: Path, tmp_path: Path) -> None:
    (run / name).unlink()
    assert name in _refused(run, phantom, tmp_path)


def test_an_edited_split_is_refused(run: Path, phantom: Path, tmp_path: Path) -> None:
    path = run / runs.MANIFEST_NAME
    record = json.loads(path.read_bytes())
    next(entry for entry in record["entries"] if entry["split"] == "val")["split"] = "train"
    path.write_text(json.dumps(record))
    assert "split.json" in _refused(run, phantom, tmp_path)


def test_other_images_under_the_same_names_are_refused(run: Path, phantom: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(phantom / "data", tmp_path / "data"))
    first, second, *_ = sorted((data / "train" / "NORMAL").iterdir())
    first.write_bytes(second.read_bytes() + b" ")
    with pytest.raises(ConversionError, match="fingerprint"):
        list(export(run, [_ROW], tmp_path / "models", phantom / "cache", data))


def test_a_run_from_before_there_were_hashes_is_exported(run: Path, phantom: Path, tmp_path: Path) -> None:
    _edit(run, lambda record: None, hashed=False)
    (outcome,) = export(run, [_ROW], tmp_path / "models", phantom / "cache")
    assert outcome.missed is None and outcome.path.exists()


def test_a_split_of_another_task_is_refused(run: Path, phantom: Path, tmp_path: Path) -> None:
    path = run / runs.MANIFEST_NAME
    manifest = json.loads(path.read_bytes())
    manifest["task"] = {"class_names": ["PNEUMONIA", "NORMAL"], "positive_class": "NORMAL"}
    path.write_text(json.dumps(manifest))
    said = _refused(run, phantom, tmp_path)
    assert runs.MANIFEST_NAME in said and "NORMAL, PNEUMONIA" in said
