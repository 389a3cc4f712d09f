from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge.cli import app
from pneumo_edge.data import phantom
from pneumo_edge.data.audit import audit
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import PHANTOM_MARKER, describe_counts, open_source
from pneumo_edge.data.splits import BY_PATIENT
from pneumo_edge.errors import DataError
from pneumo_edge.imaging import images
from pneumo_edge.task import PNEUMONIA


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "phantom", 0, 100, 50)


def _contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_has_the_layout_and_names_of_the_real_data(folder: Path) -> None:
    source = open_source(folder)
    assert describe_counts(source.samples, source.task.class_names) == {
        "train": {"NORMAL": 100, "PNEUMONIA": 100},
        "test": {"NORMAL": 50, "PNEUMONIA": 50},
    }
    assert source.has_patients
    assert all(sample.patient != sample.name for sample in source.samples)
    assert {sample.kind for sample in source.samples if sample.label == 1} == {"bacteria", "virus"}
    images_of = Counter(sample.patient for sample in source.samples)
    assert set(images_of.values()) >= {1, 2, 4}


def test_nothing_in_it_passes_for_real(folder: Path) -> None:
    assert not open_source(folder).real
    assert "no X-rays" in (folder / PHANTOM_MARKER).read_text()
    for path in sorted(folder.rglob("*.jpeg"))[::25]:
        corner = np.asarray(Image.open(path).convert("L"))[-12:, -50:]
        # Light letters on black.
        assert (corner < 60).mean() > 0.3
        assert (corner > 180).mean() > 0.05


def test_images_differ_in_size_and_exposure(folder: Path) -> None:
    opened = [images.decode(path.read_bytes()) for path in sorted(folder.rglob("*.jpeg"))]
    assert len({image.size for image in opened}) > 50
    assert min(min(image.size) for image in opened) >= 200
    assert np.std([np.asarray(image).mean() for image in opened]) > 15


def test_no_shortcut_solves_it_and_it_audits_clean(folder: Path) -> None:
    pytest.importorskip("imagehash")
    findings = audit(open_source(folder))
    assert findings.baselines is not None
    for shortcut in findings.baselines.shortcuts:
        assert shortcut.train_auc < 0.65
        assert shortcut.test_auc.value < 0.65
    assert not findings.real
    assert not findings.unreadable
    assert not findings.wrong_endings
    assert not findings.exact_duplicates
    assert not findings.near_duplicates
    assert findings.patients is not None
    assert findings.patients.shared == ()
    assert findings.training_split is not None
    assert findings.training_split.rule == BY_PATIENT


def test_the_lungs_tell_the_classes_apart() -> None:
    # The same chest and the same film, with and without opacities, differ in the lungs and nowhere else.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = phantom._grid(240, 300, rng)
        _, lungs = phantom._thorax(phantom._Anatomy.of(rng), x, y, rng)
        opacities = phantom._opacities("virus" if seed % 2 else "bacteria", lungs, x, y, rng)
        assert opacities.min() >= 0
        assert opacities.max() > 0.08
        assert opacities[lungs == 0].max() == 0
        assert 0.1 < (lungs > 0.5).mean() < 0.4


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (make_phantom(tmp_path / name, seed, 10, 3) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert _contents(first) == _contents(again)
    pictures = {data for name, data in _contents(first).items() if name.endswith(".jpeg")}
    assert len(pictures) == 26
    assert not pictures & set(_contents(other).values())


def test_an_older_phantom_is_replaced_as_a_whole(tmp_path: Path) -> None:
    make_phantom(tmp_path / "phantom", 0, 12, 4)
    make_phantom(tmp_path / "phantom", 0, 10, 2)
    assert describe_counts(open_source(tmp_path / "phantom").samples, PNEUMONIA.class_names)["train"] == {
        "NORMAL": 10,
        "PNEUMONIA": 10,
    }


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "phantom").mkdir()
    make_phantom(tmp_path / "phantom", 0, 10, 2)
    assert not open_source(tmp_path / "phantom").real


def test_what_is_not_a_phantom_is_never_touched(tmp_path: Path) -> None:
    precious = tmp_path / "xrays" / "train" / "a.jpeg"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    for target in (tmp_path / "xrays", precious):
        with pytest.raises(DataError, match="new or empty folder"):
            make_phantom(target, 0, 10, 2)
    assert _contents(tmp_path) == {"xrays/train/a.jpeg": b"precious"}


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupt_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    target, draw = tmp_path / "phantom", phantom._draw
    if earlier:
        make_phantom(target, 0, 10, 2)
    before, calls = _contents(tmp_path), iter(range(1000))

    def interrupted(*args: object) -> object:
        if next(calls) == 15:
            raise KeyboardInterrupt
        return draw(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(phantom, "_draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(target, 0, 10, 2)
    assert _contents(tmp_path) == before
    assert target.exists() == earlier
    assert len(list(tmp_path.iterdir())) == earlier


def test_the_command_makes_one_and_says_that_it_is_not_real(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "phantom"
    options = ["--seed", "3", "--train-per-class", "10", "--test-per-class", "2"]
    result = CliRunner().invoke(app, ["data", "phantom", str(target), *options])
    assert result.exit_code == 0
    assert "not X-rays" in result.stdout
    assert len(list(target.rglob("*.jpeg"))) == 24
    result = CliRunner().invoke(app, ["data", "phantom", str(tmp_path / "deep"), *options])
    assert result.exit_code == 3
    assert "Give another path" in result.stderr
