"""A data set is read like the training data of the models that it is opened for, as far as that is possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge.api.datasets import open_data
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.errors import DataError
from pneumo_edge.scoring.models import Skipped, read_models
from pneumo_edge.task import Task
from tests import specs

MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(inert_tflite: Path, tmp_path: Path) -> MakeModel:
    """A model file that carries classes, the positive one, and options for reading data."""

    def make(class_names: tuple[str, str], positive: str, /, **options: str) -> Path:
        spec = specs.make_spec("mobilenetv2", "fp32")
        data = replace(spec.data, options=options)
        decision = replace(spec.decision, positive_class=positive)
        path = tmp_path / f"{positive}-{len(options)}.tflite"
        write_spec(inert_tflite, path, replace(spec, class_names=class_names, decision=decision, data=data))
        return path

    return make


def _folder(root: Path, *folders: str) -> Path:
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def test_classes_are_those_of_the_models(make_model: MakeModel, tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", *(f"{s}/{c}" for s in ("train", "test") for c in ("COVID", "HEALTHY", "LUNG")))
    told: list[str] = []
    source = open_data(data, models=[make_model(("HEALTHY", "COVID"), "COVID")], tell=told.append)
    assert (source.task.class_names, source.task.positive_class) == (("HEALTHY", "COVID"), "COVID")
    assert told == ["note: class LUNG: not one of the classes HEALTHY, COVID; 20 images are not used"]
    # What the user says goes before.
    asked = DataSource(str(data), classes="LUNG,COVID", positive="LUNG")
    assert open_data(asked, models=[make_model(("HEALTHY", "COVID"), "COVID")]).task.class_names == ("LUNG", "COVID")


def test_options_are_those_of_the_models(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    data = _folder(tmp_path / "data", "a", "b")
    model = make_model(("well", "ill"), "ill", classes="a=well,b=ill", positive="ill", split="60/20/20", unknown="x")
    source = open_data(data, models=[model])
    assert source.task.class_names == ("well", "ill")
    assert {sample.split for sample in source.samples} == {"train", "val", "test"}


def test_data_of_other_classes_is_read_as_it_is(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(("well", "ill"), "ill", classes="a=well,b=ill", positive="ill")
    data = _folder(tmp_path / "data", *(f"{s}/{c}" for s in ("train", "test") for c in ("NORMAL", "PNEUMONIA")))
    assert open_data(data, models=[model]).task.class_names == ("NORMAL", "PNEUMONIA")
    other = _folder(tmp_path / "other", *(f"{s}/{c}" for s in ("train", "test") for c in ("X", "Y")))
    # Neither --positive would make the model fit, so it is not asked for.
    said = r"has the classes X, Y; expected the classes of the models \(ill-2\.tflite: well, ill \(positive: ill\)\)\."
    with pytest.raises(DataError, match=said) as refused:
        open_data(other, models=[model])
    assert "--positive" not in str(refused.value)
    assert "which is which: --classes X=well,Y=ill or --classes Y=well,X=ill." in str(refused.value)
    with pytest.raises(DataError, match="which is which: --classes X=well,Y=ill or "):
        open_data(other, models=[make_model(("well", "ill"), "ill", positive="ill")])
    renamed = DataSource(str(other), classes="X=well,Y=ill")
    assert open_data(renamed, models=[model]).task.positive_class == "ill"
    # The classes fit, and only the splits are missing.
    unsplit = _folder(tmp_path / "unsplit", "well", "ill")
    with pytest.raises(DataError, match="no splits"):
        open_data(unsplit, models=[make_model(("well", "ill"), "ill")])


def test_models_of_several_tasks_decide_nothing(make_model: MakeModel, tmp_path: Path) -> None:
    data = _folder(tmp_path / "data", *(f"{s}/{c}" for s in ("train", "test") for c in ("COVID", "HEALTHY")))
    models = [make_model(("HEALTHY", "COVID"), "COVID"), make_model(("HEALTHY", "COVID"), "HEALTHY")]
    said = r"COVID-0\.tflite: .*COVID\); HEALTHY-0\.tflite: .*HEALTHY\)\); .* Omit .* Give --positive HEALTHY"
    with pytest.raises(DataError, match=said):
        open_data(data, models=models)


@pytest.mark.parametrize(
    ("classes", "positive", "said"),
    [
        ("A,B", "B", "Say which classes of the data are those: --classes A=well,B=ill."),
        ("A,B", "A", "Say which classes of the data are those: --classes B=well,A=ill."),
        ("A,B,C", None, "Say which classes of the data are those: as in --classes A=well,B=ill."),
        ("well,ill", "well", "Give --positive ill."),
        ("odd,ill,well", None, "Say which classes of the data are those: --classes well,ill."),
    ],
)
def test_a_model_of_other_classes_than_the_data_is_named_with_what_to_type(
    make_model: MakeModel, classes: str, positive: str | None, said: str
) -> None:
    skipped: list[Skipped] = []
    assert (
        read_models([make_model(("well", "ill"), "ill")], skipped.append, Task.of(classes.split(","), positive)) == []
    )
    assert skipped[0].reason.endswith(said)
