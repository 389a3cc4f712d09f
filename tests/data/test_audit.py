from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge._util import extras, records
from pneumo_edge.cli import app
from pneumo_edge.data.audit import Alike, Audit, SharedPatient, WrongEnding, audit
from pneumo_edge.data.sources import PHANTOM_MARKER, open_source
from pneumo_edge.data.tensors import prepare

pytest.importorskip("imagehash")

Medmnist = tuple[Path, dict[str, npt.NDArray[np.uint8]]]
MakeFolder = Callable[[dict[str, bytes]], Path]
Picture = Callable[..., bytes]


def _recode(data: bytes, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.fixture
def dirty(healthy: dict[str, bytes], picture: Picture) -> dict[str, bytes]:
    """A data set with one of each fault."""
    return {
        **healthy,
        "val/PNEUMONIA/person300_virus_1.jpeg": picture(300),
        # Unusable.
        "train/NORMAL/IM-0400-0001.jpeg": picture(400)[:-500],
        "test/NORMAL/IM-0401-0001.jpeg": b"",
        # A PNG by another name, and one without an ending.
        "train/NORMAL/IM-0402-0001.jpeg": picture(402, kind="PNG"),
        "train/NORMAL/IM-0403-0001": picture(403),
        # The same bytes, in train and in test, with another label.
        "train/PNEUMONIA/person404_virus_1.jpeg": healthy["test/NORMAL/IM-0101-0001.jpeg"],
        # The same picture in other bytes.
        "train/NORMAL/IM-0405-0001.jpeg": _recode(healthy["train/NORMAL/IM-0001-0001.jpeg"], format="JPEG", quality=60),
        # A patient in train, val and test, and one with the number of another in train.
        "train/PNEUMONIA/person300_virus_2.jpeg": picture(301),
        "test/PNEUMONIA/person300_virus_3.jpeg": picture(302),
        "test/PNEUMONIA/person1_bacteria_9.jpeg": picture(406),
    }


@pytest.fixture
def findings(dirty: dict[str, bytes], make_folder: MakeFolder) -> Audit:
    return audit(open_source(make_folder(dirty)))


def test_every_file_is_counted(findings: Audit, dirty: dict[str, bytes]) -> None:
    assert findings.counts == {
        "train": {"NORMAL": 24, "PNEUMONIA": 22},
        "val": {"NORMAL": 0, "PNEUMONIA": 1},
        "test": {"NORMAL": 5, "PNEUMONIA": 6},
    }
    usable = len(dirty) - 2
    assert findings.formats == {"JPEG": usable - 1, "PNG": 1}
    assert findings.modes == {"L": usable}
    assert findings.sizes == {"96x80": usable}


def test_a_dicom_file_is_an_image_like_any_other(healthy: dict[str, bytes], make_folder: MakeFolder) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    file = Path(pydicom.data.get_testdata_file("MR_small.dcm", download=False)).read_bytes()
    found = audit(open_source(make_folder({**healthy, "train/NORMAL/a.dcm": file, "train/NORMAL/b.jpeg": file})))
    assert found.formats == {"JPEG": len(healthy), "DICOM": 2}
    assert found.sizes["64x64"] == 2
    assert found.wrong_endings == (WrongEnding("train/NORMAL/b.jpeg", "DICOM"),)


def test_unusable_files_are_named_with_the_reason(findings: Audit) -> None:
    assert findings.unreadable.keys() == {"train/NORMAL/IM-0400-0001.jpeg", "test/NORMAL/IM-0401-0001.jpeg"}
    assert "truncated" in findings.unreadable["train/NORMAL/IM-0400-0001.jpeg"]
    assert "empty" in findings.unreadable["test/NORMAL/IM-0401-0001.jpeg"]


def test_files_with_a_wrong_ending_are_named_and_used(findings: Audit, make_folder: MakeFolder, tmp_path: Path) -> None:
    assert findings.wrong_endings == (
        WrongEnding("train/NORMAL/IM-0402-0001.jpeg", "PNG"),
        WrongEnding("train/NORMAL/IM-0403-0001", "JPEG"),
    )
    manifest = prepare(open_source(tmp_path / "xrays"), tmp_path / "cache", 32, 32).manifest
    assert {file.name for file in findings.wrong_endings} <= {entry.name for entry in manifest.entries}


def test_duplicates_are_found_with_their_splits_and_classes(findings: Audit) -> None:
    names = ("train/PNEUMONIA/person404_virus_1.jpeg", "test/NORMAL/IM-0101-0001.jpeg")
    assert findings.exact_duplicates == (Alike(names, ("train", "test"), ("NORMAL", "PNEUMONIA"), 0),)
    (near,) = findings.near_duplicates
    assert near.names == ("train/NORMAL/IM-0001-0001.jpeg", "train/NORMAL/IM-0405-0001.jpeg")
    assert (near.splits, near.classes) == (("train",), ("NORMAL",))
    assert 0 < near.distance <= 20


def test_patients_in_several_splits_are_told_from_repeated_numbers(findings: Audit) -> None:
    assert findings.patients is not None
    assert findings.patients.shared == (SharedPatient("person300", "virus", {"train": 1, "val": 1, "test": 1}),)
    # person300, and person1 who has a virus in train and bacteria in test.
    assert findings.patients.repeated_numbers == 2
    assert findings.patients.unnamed == 0
    assert findings.patients.most_images == 3


def test_the_training_split_is_the_one_that_training_uses(findings: Audit, tmp_path: Path, dirty: object) -> None:
    manifest = prepare(open_source(tmp_path / "xrays"), tmp_path / "cache", 32, 32).manifest
    assert findings.training_split is not None
    assert findings.training_split.fingerprint == manifest.fingerprint
    assert findings.training_split.counts == manifest.counts
    assert findings.training_split.left_out == manifest.left_out
    assert "train/PNEUMONIA/person404_virus_1.jpeg" in manifest.left_out


def test_shortcuts_are_measured_on_test_in_the_direction_of_train(make_folder: MakeFolder, picture: Picture) -> None:
    contents = {}
    for i in range(40):
        split = "train" if i < 30 else "test"
        # Pneumonia is darker in both; it has less contrast in train and more in test.
        contents[f"{split}/NORMAL/IM-{i:04d}-0001.png"] = picture(i, 150, 20 + (i < 30) * 5, kind="PNG")
        contents[f"{split}/PNEUMONIA/person{i}_virus_1.png"] = picture(i, 110, 20 + (i >= 30) * 5, kind="PNG")
    baselines = audit(open_source(make_folder(contents))).baselines
    assert baselines is not None
    by_name = {shortcut.measure: shortcut for shortcut in baselines.shortcuts}
    # All images are of one size, and none is a JPEG.
    assert by_name.keys() == {"file size", "brightness", "contrast", "tone", "sharpness"}
    assert by_name["brightness"].pneumonia_is == "lower"
    assert by_name["brightness"].test_auc.value == by_name["brightness"].train_auc == 1
    assert by_name["contrast"].pneumonia_is == "lower"
    assert by_name["contrast"].train_auc > 0.6
    assert by_name["contrast"].test_auc.value < 0.4
    assert (baselines.majority_accuracy.value, baselines.majority_class) == (0.5, "NORMAL")


def test_how_images_were_taken_and_saved_can_tell_the_classes(make_folder: MakeFolder, picture: Picture) -> None:
    contents = {}
    for i in range(40):
        split = "train" if i < 30 else "test"
        whole = Image.open(io.BytesIO(picture(i))).resize((200, 150))
        soft = Image.open(io.BytesIO(picture(100 + i))).resize((40, 30)).resize((180 + i % 3, 150 + i % 2))
        for name, image, quality in (("NORMAL/IM-{:04d}-0001", whole, 90), ("PNEUMONIA/person{}_virus_1", soft, 60)):
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=quality)
            contents[f"{split}/{name.format(i)}.jpeg"] = stream.getvalue()
    baselines = audit(open_source(make_folder(contents))).baselines
    assert baselines is not None
    by_name = {shortcut.measure: shortcut for shortcut in baselines.shortcuts}
    directions = {"aspect ratio": "lower", "sharpness": "lower", "JPEG quantization": "higher"}
    for name, direction in directions.items():
        assert by_name[name].pneumonia_is == direction
        assert by_name[name].test_auc.value == 1


def test_without_a_test_split_there_are_no_baselines(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    train = {name: data for name, data in healthy.items() if name.startswith("train")}
    findings = audit(open_source(make_folder(train)))
    assert findings.baselines is None
    assert findings.training_split is not None


def test_what_cannot_be_trained_on_is_audited_all_the_same(make_folder: MakeFolder, picture: Picture) -> None:
    findings = audit(open_source(make_folder({"train/NORMAL/a.png": picture(1), "train/PNEUMONIA/b.png": b"x"})))
    assert findings.training_split is None
    assert "images of each class" in findings.training_problem
    assert findings.unreadable.keys() == {"train/PNEUMONIA/b.png"}


def test_an_archive_has_no_file_sizes_or_endings(medmnist: Medmnist) -> None:
    path, _ = medmnist
    findings = audit(open_source(path))
    assert findings.counts["train"] == {"NORMAL": 10, "PNEUMONIA": 10}
    assert (findings.formats, findings.wrong_endings, findings.patients) == ({}, (), None)
    assert findings.baselines is not None
    measures = [shortcut.measure for shortcut in findings.baselines.shortcuts]
    assert measures == ["brightness", "contrast", "tone", "sharpness"]


def test_the_command_writes_text_json_and_a_figure(
    make_folder: MakeFolder, dirty: dict[str, bytes], tmp_path: Path
) -> None:
    long_name = f"train/NORMAL/{'a very long name ' * 12}.jpeg"
    root = make_folder({**dirty, long_name: b"no image"})
    written = {"--json": "audit.json", "--figure": "audit.png", "--place-map": "places.png"}
    outputs = [word for option, name in written.items() for word in (option, str(tmp_path / "out" / name))]
    result = CliRunner().invoke(app, ["data", "audit", str(root), *outputs])
    assert result.exit_code == 0
    assert "left out of training: 3 of 59" in result.stdout
    assert f"{long_name}: this is not an image" in result.stdout
    assert "IM-0402-0001.jpeg: PNG" in result.stdout
    assert "person300 virus: train (1), val (1), test (1)" in result.stdout
    assert "PHANTOM" not in result.stdout
    for heading in ("Places: how far", "Look: groups", "What to do"):
        assert heading in result.stdout
    # For each kind of finding what to do about it.
    assert "Copies in more than one class (1 groups): one of the labels is wrong." in result.stdout
    assert "Patients in more than one split (1): a model can recognize them in the test." in result.stdout
    read_back = records.loads(Audit, (tmp_path / "out" / "audit.json").read_bytes())
    assert read_back == audit(open_source(root))
    with Image.open(tmp_path / "out" / "audit.png") as figure:
        assert figure.format == "PNG"
        assert figure.width > 1500
        assert len(set(figure.convert("L").resize((64, 64)).tobytes())) > 20
    with Image.open(tmp_path / "out" / "places.png") as figure:
        assert figure.width > 800


def test_a_phantom_is_labelled_in_text_and_json(
    make_folder: MakeFolder, healthy: dict[str, bytes], tmp_path: Path
) -> None:
    root = make_folder({**healthy, PHANTOM_MARKER: b"drawn"})
    result = CliRunner().invoke(app, ["data", "audit", str(root), "--json", str(tmp_path / "audit.json")])
    assert result.exit_code == 0
    assert "not real X-rays" in result.stdout
    assert json.loads((tmp_path / "audit.json").read_text())["real"] is False


def test_a_strip_along_an_edge_of_one_class_is_told(make_folder: MakeFolder, picture: Picture) -> None:
    contents = {}
    for number in range(40):
        for label, name in enumerate(("NORMAL/IM-{:04d}-0001", "PNEUMONIA/person{}_virus_1")):
            image = Image.open(io.BytesIO(picture(1000 * label + number)))
            if label:
                image.paste(255, (0, 0, 6, image.height))
            stream = io.BytesIO()
            image.save(stream, "PNG")
            contents[f"train/{name.format(number)}.png"] = stream.getvalue()
    findings = audit(open_source(make_folder(contents)))
    told = {place.name for place in findings.places or () if place.auc.low > 0.8}
    assert told == {"border", *(f"row {row}, column 1" for row in range(1, 8))}
    assert any("Edges of the images (8 places)" in sentence for sentence in findings.advice)


def test_without_scipy_groups_of_one_look_are_not_sought_and_the_rest_is_told(
    make_folder: MakeFolder, healthy: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_installed = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "scipy" and is_installed(module))
    result = CliRunner().invoke(app, ["data", "audit", str(make_folder(healthy))])
    assert result.exit_code == 0, result.output
    assert 'Not computed: needs SciPy. Run: pip install "pneumo-edge[data]"' in result.stdout
    assert "border AUC" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["nowhere"], 3, "does not exist"),
        (["nowhere", "--place-map", "places.docx"], 2, "places.docx"),
        (["nowhere", "--figure", "audit.docx"], 2, "audit.docx"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(arguments: list[str], exit_code: int, message: str) -> None:
    result = CliRunner().invoke(app, ["data", "audit", *arguments])
    assert result.exit_code == exit_code
    assert message in result.stderr


@pytest.mark.slow
def test_the_known_facts_of_the_kermany_data(shared_data: Path) -> None:
    findings = audit(open_source(shared_data / "chest_xray_224"))
    assert findings.counts == {
        "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    }
    assert findings.sizes == {"224x224": 5840}
    assert (findings.unreadable, findings.wrong_endings) == ({}, ())
    assert len(findings.exact_duplicates) == 30
    assert sum(len(group.names) for group in findings.exact_duplicates) == 62
    assert all(len(group.splits) == len(group.classes) == 1 for group in findings.exact_duplicates)
    assert findings.near_duplicates == ()
    assert findings.patients is not None
    assert findings.patients.shared == ()
    assert (findings.patients.repeated_numbers, findings.patients.most_images) == (170, 30)
    assert findings.training_split is not None
    assert findings.training_split.counts["val"] == {"NORMAL": 134, "PNEUMONIA": 389}
    assert findings.training_split.left_out == {}
    assert findings.baselines is not None
    assert findings.baselines.majority_accuracy.value == 0.625
    # The tube voltage ("KV59") at the lower right.
    (voltage,) = (mark for mark in findings.marks or () if mark.left > 0.8 and mark.top > 0.8)
    assert voltage.class_name == "PNEUMONIA"
    assert voltage.counts["train"]["NORMAL"] == 0
    assert 90 <= voltage.counts["train"]["PNEUMONIA"] <= 130
    # The outermost sixteen pixels, and films of one machine.
    assert findings.places
    border = findings.places[0]
    assert border.name == "border"
    assert border.auc.low > 0.93
    assert findings.clusters
    assert any("test/NORMAL/NORMAL2-IM-0217-0001.jpeg" in cluster.names for cluster in findings.clusters)
    aucs = {shortcut.measure: shortcut.test_auc.value for shortcut in findings.baselines.shortcuts}
    expected = {"file size": 0.834, "brightness": 0.427, "contrast": 0.662, "tone": 0.612, "sharpness": 0.610}
    assert aucs == pytest.approx(expected, abs=0.0005)
