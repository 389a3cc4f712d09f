"""Training that is killed at random moments leaves what training that was not killed leaves, bit for bit.

By default a run of a tiny network is killed once. ``make kill-training`` kills two runs of real ones ten times each;
``PNEUMO_EDGE_KILLS`` and ``PNEUMO_EDGE_KILL_SEED`` say how often and when.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import pkgutil
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge.backbones import BACKBONES
from pneumo_edge.data.phantom import make_phantom
from tests import tiny_backbone

psutil: Any = pytest.importorskip("psutil", reason="the extra 'bench' is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_KILLS = int(os.environ.get("PNEUMO_EDGE_KILLS", "1"))
_REPOSITORY = Path(__file__).parents[2]
_SEED = int(os.environ.get("PNEUMO_EDGE_KILL_SEED", "0"))
#: Both recipes that fit the whole network; one of the backbones has dropout inside, too, and so has the tiny one.
_RUNS = (("mobilenetv2", "best"), ("efficientnetb0", "standard")) if _KILLS > 1 else ((tiny_backbone.NAME, "standard"),)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_phantom(folder, seed=1, train_per_class=12, test_per_class=2)
    return folder


@pytest.fixture(scope="module")
def random_weights(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A file of random weights of a backbone: no network is asked."""
    folder = tmp_path_factory.mktemp("weights")

    def make(backbone: str) -> Path:
        keras.utils.set_random_seed(5)
        path = folder / f"{backbone}.weights.h5"
        if backbone == tiny_backbone.NAME:
            tiny_backbone.build_with_dropout(False, None, (96, 96, 3)).save_weights(path)
            return path
        application = pkgutil.resolve_name(BACKBONES[backbone].builder)
        application(include_top=False, weights=None, input_shape=(224, 224, 3)).save_weights(path)
        return path

    return make


class _Training:
    """One run of training, in as many processes as it is killed; each has a cache of its own."""

    def __init__(self, data: Path, weights: Path, backbone: str, recipe: str, folder: Path) -> None:
        self.out = folder / "run"
        self._command = [
            *tiny_backbone.COMMAND, "train", "--data", str(data), "--backbone", backbone,
            "--recipe", recipe, "--weights", str(weights), "--out", str(self.out), "--image-size", "96",
        ]  # fmt: skip
        self._environment = {**os.environ, "PNEUMO_EDGE_CACHE": str(folder / "cache")}
        self._log = folder / "log"
        #: Processor time of its last process, in seconds.
        self.seconds = 0.0
        folder.mkdir(exist_ok=True)

    def go_on(self, kill_after: float = math.inf) -> bool:
        """Begin, or go on; kill it after so much processor time, in seconds. Whether it came to its end.

        Processor time, because other work on the machine makes no difference to what is done in it.
        """
        with self._log.open("a") as log:
            process = psutil.Popen(self._command, cwd=_REPOSITORY, env=self._environment, stdout=log, stderr=log)
            try:
                while process.poll() is None:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self.seconds = sum(process.cpu_times()[:2])
                    if self.seconds > kill_after:
                        process.kill()
                        process.wait()
                        return False
                    time.sleep(0.02)
            finally:
                if process.poll() is None:
                    process.kill()
        assert process.returncode == 0, self._log.read_text()
        return True

    @property
    def epochs(self) -> list[dict[str, str]]:
        """The history but for the time, which is never the same."""
        with (self.out / "history.csv").open(newline="") as stream:
            return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(stream)]

    @property
    def record(self) -> dict[str, Any]:
        """The record but for hashes that follow from the file of the model, in which Keras writes the time."""
        found: dict[str, Any] = json.loads((self.out / "run.json").read_bytes())
        return {name: value for name, value in found.items() if name not in ("model_sha256", "record_sha256")}

    @property
    def weights(self) -> dict[str, bytes]:
        """Every array of the model, by its place in the file."""
        import h5py

        found: dict[str, bytes] = {}
        with zipfile.ZipFile(self.out / "model.keras") as archive:
            stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
            stored.visititems(
                lambda name, item: found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        return found


@pytest.mark.parametrize(("backbone", "recipe"), _RUNS)
def test_training_that_is_killed_ends_bit_for_bit_as_one_that_is_not(
    backbone: str, recipe: str, data: Path, random_weights: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = random_weights(backbone)
    whole = _Training(data, weights, backbone, recipe, tmp_path / "whole")
    assert whole.go_on()
    moments = random.Random(f"{_SEED} {backbone}")
    # Where it is killed but once, that is not while TensorFlow is loaded, which takes the first half.
    first = 0.0 if _KILLS > 1 else 0.6
    kills, runs = 0, 0
    while kills < _KILLS:
        killed = _Training(data, weights, backbone, recipe, tmp_path / f"killed-{runs}")
        runs += 1
        while not killed.go_on(moments.uniform(first, 0.9) * whole.seconds if kills < _KILLS else math.inf):
            kills += 1
            print(f"{backbone} {recipe}: killed {kills} times, in {runs} runs", flush=True)
        assert killed.epochs == whole.epochs
        assert (killed.out / "validation.csv").read_bytes() == (whole.out / "validation.csv").read_bytes()
        assert killed.weights == whole.weights and whole.weights
        assert killed.record == whole.record
        assert sorted(path.name for path in killed.out.iterdir()) == sorted(path.name for path in whole.out.iterdir())
