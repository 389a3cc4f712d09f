"""Several runs of a network from one command."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pneumo_edge import runs
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import app
from pneumo_edge.data.phantom import make_phantom
from tests import tiny_backbone

pytestmark = pytest.mark.slow


def _content(folder: Path) -> dict[str, bytes]:
    """What a run's files say, but for times and addresses in them."""
    import h5py

    found = {name: (folder / name).read_bytes() for name in ("validation.csv", "split.json")}
    with zipfile.ZipFile(folder / runs.MODEL_NAME) as archive:
        # An object that layers share is named by its address in memory.
        found["config"] = re.sub(rb'"shared_object_id": \d+', b"", archive.read("config.json"))
        stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        stored.visititems(
            lambda name, item: (
                found.update({name: np.asarray(item).tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_each_run_is_the_one_of_its_seed_alone_and_finished_runs_are_kept(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, tiny_backbone.NAME, tiny_backbone.WITH_DROPOUT)
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    make_phantom(tmp_path / "data", seed=1, train_per_class=12, test_per_class=2)
    keras.utils.set_random_seed(5)
    weights = tmp_path / "tiny.weights.h5"
    tiny_backbone.build_with_dropout(False, None, (96, 96, 3)).save_weights(weights)

    def train(*options: str) -> Result:
        words = ["train", "--data", str(tmp_path / "data"), "--backbone", tiny_backbone.NAME, "--recipe", "quick"]
        words += ["--image-size", "96", "--weights", str(weights), *options]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done

    keras.utils.clear_session()
    train("--seed", "2", "--out", str(tmp_path / "alone"))
    train("--seeds", "0,2", "--out", str(tmp_path / "run"))
    assert {path.name for path in tmp_path.glob("run-*") if path.is_dir()} == {"run-0", "run-2"}
    assert _content(tmp_path / "run-2") == _content(tmp_path / "alone")
    assert _content(tmp_path / "run-0") != _content(tmp_path / "alone")
    assert [runs.load(tmp_path / f"run-{seed}").training.seed for seed in (0, 2)] == [0, 2]

    finished = {seed: (tmp_path / f"run-{seed}" / runs.RECORD_NAME).stat().st_mtime_ns for seed in (0, 2)}
    said = train("--seeds", "0-2", "--out", str(tmp_path / "run")).stdout
    assert (tmp_path / "run-1" / runs.RECORD_NAME).exists()
    assert finished == {seed: (tmp_path / f"run-{seed}" / runs.RECORD_NAME).stat().st_mtime_ns for seed in (0, 2)}
    folders = [str(tmp_path / f"run-{seed}") for seed in (0, 1, 2)]
    assert f"pneumo-edge export {' '.join(folders)}" in " ".join(said.split())
