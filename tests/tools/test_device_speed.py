"""The comparison of the device runtime with what else there is; how fast anything is here is not asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import bundled
from pneumo_edge._util import extras
from pneumo_edge.errors import ResultsError
from pneumo_edge.runtime import engines
from tools.device_speed import (
    Agreement,
    Bound,
    SpeedComparison,
    _remove_other_outputs,
    compare_calls,
    compare_verdicts,
    render,
)

_MODEL = bundled.path(bundled.DEFAULT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small image, which is decoded in full by all, and a large one."""
    folder = tmp_path / "x-rays"
    folder.mkdir()
    for side in (300, 1300):
        # Of one seed: of another the model may be so sure that two decoders give the same probability.
        noise = np.random.default_rng(0).normal(128, 60, (side, side)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{side:04}.jpeg")
    return folder


def test_a_ratio_is_of_one_round_and_its_median_counts() -> None:
    row = SpeedComparison("a", "b", (1.0, 2.0, 9.0), (2.0, 2.0, 3.0), Bound(1.05))
    assert row.ratios == pytest.approx((0.5, 1.0, 3.0))
    assert row.ratio == 1.0
    assert row.bound.keeps(row.ratio)
    assert not row.bound.keeps(1.06)


def test_a_speed_up_is_theirs_over_ours() -> None:
    row = SpeedComparison("a", "b", (1.0, 1.0), (1.9, 1.7), Bound(1.8, at_least=True))
    assert row.ratio == pytest.approx(1.8)
    assert not row.bound.keeps(1.79)


def test_the_table_says_what_passes_and_what_fails() -> None:
    rows = [
        SpeedComparison("ours", "theirs", (0.004, 0.005), (0.005, 0.005), Bound(0.75)),
        SpeedComparison("two", "one", (0.002,), (0.004,), Bound(1.8, at_least=True)),
    ]
    text = render(rows, Agreement(120, 1.0, 0.00197))
    assert "| ours | theirs | 4.50 | 5.00 | 0.90 | 0.80 to 1.00 | at most 0.75 | FAILS |" in text
    assert "| two | one | 2.00 | 4.00 | 2.00 | 2.00 to 2.00 | at least 1.8 | passes |" in text
    assert "120 images: 100.00% of decisions equal, mean change of probability 0.0020." in text


@pytest.mark.skipif(not extras.is_installed("ai_edge_litert"), reason="the extra 'litert' is not installed")
def test_the_contestants_judge_the_same(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    names = ("pneumo_edge", "equal", "full")
    seconds, answers = compare_verdicts(dict.fromkeys(names, (sys.executable, _MODEL)), paths, 2)
    assert answers["pneumo_edge"] == answers["equal"]
    assert answers["full"][0] == answers["equal"][0]
    assert answers["full"][1] != answers["equal"][1]
    for of_rounds in seconds.values():
        assert len(of_rounds) == 2
        assert min(of_rounds) > 0


def test_a_contestant_that_does_not_start_is_named_with_its_reason(folder: Path) -> None:
    if extras.is_installed("mediapipe"):
        pytest.skip("MediaPipe is installed here")
    with pytest.raises(ResultsError, match=r"mediapipe ended \(ModuleNotFoundError: No module named 'mediapipe'\)"):
        compare_verdicts({"mediapipe": (sys.executable, _MODEL)}, sorted(folder.iterdir()), 1)


def test_calls_come_by_turns_after_one_that_is_not_timed() -> None:
    called: list[str] = []
    ours, theirs = compare_calls(lambda: called.append("o"), lambda: called.append("t"), 3, "Calling")
    assert (len(ours), len(theirs)) == (3, 3)
    assert "".join(called) == "ot" + "ot" + "to" + "ot"


def test_what_the_heatmap_is_compared_with_judges_alike_and_has_none(tiny_models: Path, tmp_path: Path) -> None:
    row, tensor = engines.ENGINES["litert"], np.full((1, 224, 224, 3), 140, np.uint8)
    _remove_other_outputs(tiny_models / "tiny-int8.tflite", tmp_path / "plain.tflite")
    whole, plain = (engines.load(path, row) for path in (tiny_models / "tiny-int8.tflite", tmp_path / "plain.tflite"))
    assert (list(whole.other_shapes), list(plain.other_shapes)) == (["heatmap"], [])
    assert whole.read_graph().multiply_adds > plain.read_graph().multiply_adds
    np.testing.assert_array_equal(whole.run(tensor), plain.run(tensor))


@pytest.mark.slow
def test_the_command_prints_the_table_and_puts_it_into_a_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- table: made by make device-speed -->\n<!-- end of table -->\nAfter\n")
    command = [sys.executable, "-m", "tools.device_speed", "--images", str(folder), "--rounds", "2"]
    done = subprocess.run([*command, "--page", str(page)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert "MediaPipe is left out: --mediapipe is not given" in done.stderr
    assert {line.split(" | ")[0] for line in lines if line.startswith("| ")} >= {
        "| end to end", "| `pneumo-edge predict`, cold", "| `pneumo-edge --help`, cold",
    }  # fmt: skip
    assert all(line in page.read_text().splitlines() for line in lines)
    assert page.read_text().endswith("<!-- end of table -->\nAfter\n")


def test_a_folder_without_images_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.device_speed", "--images", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {tmp_path} holds no images; expected a folder of X-rays. Name another with --images."
    ]
