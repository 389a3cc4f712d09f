"""What is exported is verified on the run's own validation images, whatever split would be drawn today."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pneumo_edge import runs
from pneumo_edge.converters import reference
from pneumo_edge.converters.export import export
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.formats import FORMATS

SIDE = 224
SaveRun = Callable[[Path, Dataset, Path], None]
#: Ten patients, and so another split than is drawn.
_COARSE = r"^(?:IM-\d\d\d|person\d+_[a-z]+_)(\d)"


def test_a_run_is_exported_with_the_split_it_was_trained_on(phantom: Path, tmp_path: Path, save_run: SaveRun) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom / "data", data)
    cache = phantom / "cache"
    dataset = prepare(open_source(data, _COARSE), cache, SIDE, SIDE)
    trained_on = dataset.manifest
    assert trained_on.fingerprint != prepare(open_source(data), cache, SIDE, SIDE).manifest.fingerprint
    for folder in ("before", "now"):
        save_run(tmp_path / folder, dataset, data)
    # A run of a version that knew no pattern.
    run = runs.load(tmp_path / "before")
    replace(run, data=replace(run.data, patient_pattern="")).save(tmp_path / "before")
    # As another program left them: a folder that was passed over when the run was made.
    (data / "valid" / "NORMAL").mkdir(parents=True)
    shutil.copy(next((data / "test" / "NORMAL").iterdir()), data / "valid" / "NORMAL" / "x.png")
    for folder in ("before", "now"):
        out = tmp_path / folder / "models"
        (outcome,) = export(tmp_path / folder, [FORMATS["tflite-fp32"]], out, cache)
        assert outcome.missed is None
        assert outcome.spec is not None
        assert outcome.spec.data.patient_pattern == ("" if folder == "before" else _COARSE)
        judged = reference.load(out / "tiny-reference.npz", prepare(open_source(data), cache, 64, 64))
        validation = {entry.sha256 for entry in trained_on.entries if entry.split == "val"}
        assert set(judged.sha256.tolist()) == validation
