"""Every data layout goes through audit, train, export, evaluate, predict and benchmark, by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pneumo_edge.backbones import BACKBONES
from pneumo_edge.benchmarks import run as benchmark
from pneumo_edge.cli import app
from pneumo_edge.converters import isolated
from pneumo_edge.training.recipes import RECIPES
from tests import tiny_backbone
from tests.converting import converting_in
from tests.data import layouts
from tests.data.layouts import LAYOUTS, OF_SEVERAL_CLASSES, Layout, Phantom
from tests.figures import leave_unrendered

pytest.importorskip("psutil", reason="the extra 'bench' is not installed")
pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
pytestmark = pytest.mark.slow

#: What model files do not carry, because it is of this machine.
_PATHS = ("--labels", "--test")
_LITTLE = ("--preset", "rapid", "--processes", "1", "--queries", "3", "--seconds", "0", "--engine", "litert")


@pytest.fixture(scope="module")
def phantoms(
    keras: Any, converter: isolated.Child, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Phantom]]:
    """Phantom images, while a tiny network can be trained and one child process converts what is exported."""
    folder = tmp_path_factory.mktemp("layouts")
    quick = RECIPES["quick"]
    with pytest.MonkeyPatch.context() as patch, converting_in(converter):
        patch.setenv("PNEUMO_EDGE_CACHE", str(folder / "cache"))
        patch.setitem(BACKBONES, tiny_backbone.NAME, tiny_backbone.ROW)
        patch.setitem(RECIPES, "quick", replace(quick, head=replace(quick.head, epochs=2, patience=None)))
        # What a layout changes is in the numbers of a report.
        leave_unrendered(patch)
        patch.setattr(benchmark, "_MEMORY_PROCESSES", 1)
        yield layouts.draw(folder)


@pytest.mark.parametrize("layout", [*LAYOUTS, *OF_SEVERAL_CLASSES], ids=lambda layout: layout.name)
def test_a_layout_end_to_end(layout: Layout, phantoms: list[Phantom], tmp_path: Path) -> None:
    place = tmp_path / "data"
    data, words = str(layout.build(place, phantoms)), layout.words(place)
    paths = [word for i in range(0, len(words), 2) if words[i] in _PATHS for word in words[i : i + 2]]
    run, models = tmp_path / "run", tmp_path / "models"

    audited = _run("data", "audit", data, *words)
    assert "PHANTOM" in audited.stdout

    side = str(tiny_backbone.ROW.side)
    _run(
        "train", "--data", data, *words, "--backbone", tiny_backbone.NAME, "--image-size", side, "--recipe", "quick",
        "--out", str(run),
    )  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert tuple(record["class_names"]) == layout.class_names
    assert record["data"]["fingerprint"] in audited.stdout

    # The run knows where its data lies and how it was read.
    _run("export", str(run), "--format", "tflite-fp32", "--out", str(models))

    # The model file knows how its data was read, but for paths.
    out = tmp_path / "evaluation"
    done = _run("evaluate", str(models), "--data", data, *paths, "--split", "val", "--out", str(out))
    assert "warning: the validation images" not in done.stderr
    scores = json.loads((out / "scores.json").read_text())
    assert tuple(scores["data"]["class_names"]) == layout.class_names
    assert len(scores["data"]["images"]) == sum(record["data"]["counts"]["val"].values())

    image = tmp_path / "one.jpeg"
    image.write_bytes(phantoms[0].data)
    (model,) = models.glob("*.tflite")
    predicted = json.loads(_run("predict", str(image), "--model", str(model), "--json").stdout)
    assert set(predicted["images"][0]["probabilities"]) == set(layout.class_names)

    report = tmp_path / "report"
    _run("benchmark", str(model), "--data", data, *paths, *_LITTLE, "--out", str(report))
    results = json.loads((report / "results.json").read_text())
    assert tuple(results["test_set"]["class_names"]) == layout.class_names
    assert not results["skipped"]


def _run(*words: str) -> Result:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, f"pneumo-edge {' '.join(words)}\n{done.output}"
    return done
