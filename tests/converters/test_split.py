"""What is exported is verified on the run's own validation images, whatever split would be drawn today."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from converters import reference
from converters.export import export
from converters.formats import FORMATS
from pneumo_edge import runs
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare

#: Ten patients, and so another split than is drawn.
_COARSE = r"^(?:IM-\d\d\d|person\d+_[a-z]+_)(\d)"


def test_a_run_is_exported_with_the_split_it_was_trained_on(tiny_run: Path, phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom / "data", data)
    run = runs.load(tiny_run)
    trained_on = prepare(open_source(data, _COARSE), phantom / "cache", run.height, run.width).manifest
    assert trained_on.fingerprint != run.data.fingerprint
    for folder, pattern in (("before", ""), ("now", trained_on.patient_pattern)):
        shutil.copytree(tiny_run, tmp_path / folder)
        spec = replace(run.data, fingerprint=trained_on.fingerprint, patient_pattern=pattern)
        replace(run, data=spec, data_path=str(data)).save(tmp_path / folder)
        trained_on.save(tmp_path / folder / runs.MANIFEST_NAME)
    # As another program left them: a folder that was passed over when the run was made.
    (data / "valid" / "NORMAL").mkdir(parents=True)
    shutil.copy(next((data / "test" / "NORMAL").iterdir()), data / "valid" / "NORMAL" / "x.png")
    for folder in ("before", "now"):
        out = tmp_path / folder / "models"
        (outcome,) = export(tmp_path / folder, [FORMATS["tflite-fp32"]], out, phantom / "cache")
        assert outcome.missed is None
        assert outcome.spec is not None
        assert outcome.spec.data.patient_pattern == ("" if folder == "before" else _COARSE)
        judged = reference.load(out / "tiny-reference.npz", prepare(open_source(data), phantom / "cache", 64, 64))
        validation = {entry.sha256 for entry in trained_on.entries if entry.split == "val"}
        assert set(judged.sha256.tolist()) == validation
