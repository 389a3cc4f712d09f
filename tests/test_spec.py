from __future__ import annotations

import hashlib
import json
import math
import os
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge import Classifier, spec
from pneumo_edge._util import records
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import (
    SPEC_NAME,
    CalibrationSpec,
    ConformalSpec,
    DataSpec,
    DecisionSpec,
    DecodingSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    TrainingSpec,
    VerificationSpec,
)

_text = st.text(max_size=20)
_counts = st.integers(0, 2**63 - 1)
_calibrations = st.builds(CalibrationSpec, images=_counts, share=st.floats(0.5, 1, exclude_min=True))
_numbers = st.dictionaries(_text, st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), max_size=3)


@st.composite
def model_specs(draw: st.DrawFn) -> ModelSpec:
    # Class names are also the lines of a label file.
    line = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
    class_names = tuple(draw(st.lists(line, min_size=2, max_size=4, unique=True)))
    size = st.integers(1, spec.MAX_SIDE)
    # A library on 64-bit Arm takes subnormal numbers for 0, and hypothesis refuses to draw them there.
    share = st.floats(0, 1, allow_subnormal=False)
    conformal = st.builds(
        ConformalSpec,
        coverage=st.floats(0.01, 0.99),
        least_positive=share,
        most_negative=share,
        patients=st.dictionaries(st.sampled_from(class_names), _counts),
        nearest=st.none() | st.floats(0.01, 0.99),
        counterfactual_coverage=st.none() | st.floats(0.01, 0.99),
    )
    # More than two classes may have no positive one.
    by_argmax = len(class_names) > 2 and draw(st.booleans())
    if by_argmax:
        conformal = st.builds(
            ConformalSpec,
            coverage=st.floats(0.01, 0.99),
            least_positive=st.none(),
            most_negative=st.none(),
            patients=st.dictionaries(st.sampled_from(class_names), _counts),
            least=st.fixed_dictionaries(dict.fromkeys(class_names, share)),
        )
    positive = None if by_argmax else draw(st.sampled_from(class_names))
    of_class = (len(class_names),) if by_argmax else ()
    return ModelSpec(
        name=draw(_text),
        backbone=draw(_text),
        format=draw(_text),
        class_names=class_names,
        input=InputSpec(
            draw(size),
            draw(size),
            3,
            draw(st.sampled_from(["float32", "uint8"])),
            "bilinear",
            decoding=draw(st.none() | st.builds(DecodingSpec, st.none() | st.floats(1, 8))),
        ),
        decision=DecisionSpec(positive, None if by_argmax else draw(share), draw(_text), draw(_text)),
        temperature=draw(st.floats(0.05, 20)),
        data=draw(
            st.builds(
                DataSpec,
                name=st.text(st.characters()),
                counts=st.dictionaries(_text, st.dictionaries(_text, _counts, max_size=2), max_size=3),
            )
        ),
        training=draw(st.builds(TrainingSpec, seed=_counts, epochs=_counts, validation=_numbers)),
        versions=draw(st.dictionaries(_text, _text, max_size=3)),
        notice=draw(_text),
        verification=draw(
            st.none()
            | st.builds(
                VerificationSpec,
                images=_counts,
                engines=st.dictionaries(_text, _text, max_size=2),
                bounds=_numbers,
                measured=st.dictionaries(_text, _numbers, max_size=2),
            )
        ),
        calibration=draw(
            st.none() | st.builds(CalibrationSpec, images=_counts, share=st.floats(0.5, 1, exclude_min=True))
        ),
        outputs=tuple(draw(st.lists(_outputs(of_class), max_size=2, unique_by=lambda output: output.name))),
        conformal=draw(st.none() | conformal) if len(class_names) == 2 or by_argmax else None,
    )


def _outputs(of_class: tuple[int, ...]) -> st.SearchStrategy[OutputSpec]:
    # A dimension of each would be a label of each.
    shape = st.lists(st.integers(1, 9), min_size=2, max_size=2).map(lambda sides: (*of_class, *sides))
    return st.builds(OutputSpec, name=st.sampled_from(["heatmap", "features"]), shape=shape, description=_text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")


@pytest.fixture(scope="module")
def example_spec(tiny_models: Path) -> ModelSpec:
    return read_spec(tiny_models / "tiny-fp32.tflite")


def _document(model_spec: ModelSpec) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(records.dumps(model_spec))
    return document


@given(model_specs())
def test_any_spec_survives_json(model_spec: ModelSpec) -> None:
    assert spec.parse(records.dumps(model_spec), Path("x.tflite")) == model_spec


@given(model_spec=model_specs())
def test_any_spec_survives_a_tflite_file(folder: Path, inert_tflite: Path, model_spec: ModelSpec) -> None:
    target = folder / "any.tflite"
    written = write_spec(inert_tflite, target, model_spec)
    written = write_spec(inert_tflite, target, model_spec)
    assert spec.read(target) == written == replace(model_spec, model_sha256=written.model_sha256)
    with zipfile.ZipFile(target) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(model_spec.class_names)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(model_spec=model_specs())
def test_any_spec_survives_an_onnx_file(folder: Path, tiny_models: Path, model_spec: ModelSpec) -> None:
    target = folder / "any.onnx"
    written = write_spec(tiny_models / "bare" / "tiny-fp32.onnx", target, model_spec)
    assert read_spec(target) == written == replace(model_spec, model_sha256=written.model_sha256)


@pytest.mark.parametrize("name", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
def test_the_same_spec_makes_the_same_bytes(tiny_models: Path, tmp_path: Path, name: str) -> None:
    model_spec = read_spec(tiny_models / name)
    write_spec(tiny_models / "bare" / name, tmp_path / name, model_spec)
    assert (tmp_path / name).read_bytes() == (tiny_models / name).read_bytes()


def test_a_spec_is_found_by_the_standard_library_alone(tiny_models: Path) -> None:
    with zipfile.ZipFile(tiny_models / "tiny-int8.tflite") as archive:
        assert archive.namelist() == ["labels.txt", "heatmap-labels.txt", SPEC_NAME]
        assert json.loads(archive.read(SPEC_NAME))["input"]["dtype"] == "uint8"


def _distribution(name: str = "PNEUMONIA", **changes: list[float]) -> dict[str, Any]:
    histogram = {"edges": [0.25, 0.5], "counts": [1, 2, 3], **changes}
    return {"probabilities": {name: histogram}, "distance": None, "independent": 4.0, "chosen_on": "nothing"}


def test_a_spec_with_a_validation_distribution_is_read(example_spec: ModelSpec) -> None:
    document = _document(example_spec) | {"validation_distribution": _distribution()}
    found = spec.parse(json.dumps(document), Path("model.tflite")).validation_distribution
    assert found and found.probabilities["PNEUMONIA"].counts == (1, 2, 3)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["class_names"], ["A"], "class_names are ['A'], not two or more different names"),
        (["class_names"], ["A", "A"], "class_names are ['A', 'A'], not two or more different names"),
        (["class_names"], "AB", 'class_names is "AB", not a list'),
        (["decision", "positive_class"], "COVID", "positive_class 'COVID' is not in class_names"),
        (["decision", "threshold"], 1.5, "threshold is 1.5, not within 0 to 1"),
        (["decision", "threshold"], None, "threshold is None and positive_class 'PNEUMONIA': of these, both are set"),
        (
            ["decision"],
            {"positive_class": None, "threshold": None, "rule": "argmax", "chosen_on": ""},
            "two classes, ['NORMAL', 'PNEUMONIA'], take a threshold",
        ),
        (["decision", "threshold"], "0.5", 'decision.threshold is "0.5", not float'),
        (["input", "dtype"], "int16", "input.dtype is \"int16\", not 'float32' or 'uint8' or 'int8'"),
        (["input", "resize_filter"], "cubic", "input.resize_filter is \"cubic\", not 'bilinear'"),
        (["input", "channels"], 2, "input.channels is 2, not 1 or 3"),
        (["input", "maximum"], 1, "input.maximum is 1, not 255"),
        (["input", "height"], "224", 'input.height is "224", not int'),
        (["input", "height"], 0, "height and width are 0 and 224, not within 1 to 2048"),
        (["input", "width"], 10**4000, "input.width is 1000"),
        (["data", "real"], "yes", 'data.real is "yes", not bool'),
        (["calibration"], {"images": 1, "manifest": "", "share": 0.5}, "share is 0.5, not above 0.5 and at most 1"),
        (
            ["validation_distribution"],
            _distribution(edges=[0.5, 0.5]),
            "probabilities.PNEUMONIA: the edges do not rise",
        ),
        (["validation_distribution"], _distribution(counts=[1, 2]), "there are 2 edges and 2 counts"),
        (["validation_distribution"], _distribution(counts=[0, 0, 0]), "the counts sum to 0"),
        (["validation_distribution"], _distribution(counts=[0, -1, 2]), "counts[1] is -1, not at least 0"),
        (["validation_distribution"], _distribution("NORMAL"), "probabilities is not for the classes ['PNEUMONIA']"),
        (
            ["validation_distribution"],
            _distribution() | {"distance": {"edges": [1.0], "counts": [1, 2]}},
            "validation_distribution.distance is given, and there is no input_check",
        ),
        (["schema_version"], 2, "schema_version is 2, newer than 1"),
    ],
)
def test_a_spec_that_is_wrong_is_refused_with_its_field(
    example_spec: ModelSpec, path: list[str], value: object, message: str
) -> None:
    document = _document(example_spec)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ModelFileError) as caught:
        spec.parse(json.dumps(document), Path("model.tflite"))
    assert "the ModelSpec inside model.tflite is not valid" in caught.value.given
    assert message in caught.value.given


def test_every_required_field_is_named_where_it_is_missing(example_spec: ModelSpec) -> None:
    optional = {
        "verification",
        "calibration",
        "outputs",
        "conformal",
        "input_check",
        "validation_distribution",
        "model_sha256",
        "scores",
        "schema_version",
    }
    for name in _document(example_spec).keys() - optional:
        document = _document(example_spec)
        del document[name]
        with pytest.raises(ModelFileError, match=f"the field {name} is missing"):
            spec.parse(json.dumps(document), Path("model.tflite"))


def test_a_spec_of_a_later_minor_version_is_read(example_spec: ModelSpec) -> None:
    document = _document(example_spec) | {"something_new": {"a": 1}}
    assert spec.parse(json.dumps(document), Path("model.tflite")) == example_spec


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_missing_file_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelFileError, match="there is no file"):
        read_spec(tmp_path / f"missing{suffix}")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_folder_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_spec(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"This is a letter, not a model. " * 9], ids=["empty", "text"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        read_spec(path)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"PK")
    with pytest.raises(ModelFileError, match=r"expected a \.tflite or \.onnx file"):
        read_spec(path)


@pytest.mark.parametrize("name", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
def test_a_model_from_elsewhere_is_refused(tiny_models: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="has no ModelSpec"):
        read_spec(tiny_models / "bare" / name)


@pytest.mark.parametrize("name", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tiny_models: Path, tmp_path: Path, name: str, kept: float) -> None:
    whole = (tiny_models / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelFileError):
        read_spec(tmp_path / name)


def _archive(folder: Path, name: str, content: bytes, **options: Any) -> Path:
    path = folder / "archive.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3")
    with zipfile.ZipFile(path, "a", **options) as archive:
        archive.writestr(name, content)
    return path


def test_an_archive_without_a_spec_is_refused(tmp_path: Path) -> None:
    # As MediaPipe's and Model Maker's files have one.
    with pytest.raises(ModelFileError, match="has no ModelSpec"):
        spec.read(_archive(tmp_path, "labels.txt", b"NORMAL\nPNEUMONIA\n"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"[1]", b"{" * 10_000])
def test_an_entry_that_is_no_spec_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelFileError, match="is not valid"):
        spec.read(_archive(tmp_path, SPEC_NAME, content))


def test_an_entry_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = _archive(tmp_path, SPEC_NAME, b" " * 100_000_000, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="is not valid"):
        spec.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_that_cannot_be_unpacked_in_pieces_is_refused(tmp_path: Path, compression: int) -> None:
    path = _archive(tmp_path, SPEC_NAME, b" " * 100_000_000, compression=compression)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="has no ModelSpec"):
        spec.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_an_archive_of_very_many_entries_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "many.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3")
    with zipfile.ZipFile(path, "a") as archive:
        for index in range(60_000):
            archive.writestr(zipfile.ZipInfo(f"{index}"), b"")
    with pytest.raises(ModelFileError, match="has no ModelSpec"):
        spec.read(path)


# The hash inside the spec


@pytest.mark.parametrize("name", ["tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"])
def test_the_hash_covers_all_but_what_the_file_says_of_itself(tiny_models: Path, name: str) -> None:
    content = (tiny_models / name).read_bytes()
    if name.endswith(".onnx"):
        onnx = pytest.importorskip("onnx")
        proto = onnx.load_from_string(content)
        del proto.metadata_props[:]
        covered = proto.SerializeToString()
    else:
        covered = content[: content.index(b"PK\x03\x04")]
    assert 0.3 * len(content) < len(covered) < len(content)
    assert read_spec(tiny_models / name).model_sha256 == hashlib.sha256(covered).hexdigest()


@pytest.mark.parametrize("name", ["tiny-int8.tflite", "tiny-fp32.onnx"])
def test_any_damage_to_a_whole_file_is_noticed(tiny_models: Path, folder: Path, name: str) -> None:
    whole, expected = (tiny_models / name).read_bytes(), read_spec(tiny_models / name)

    @settings(max_examples=300)
    @given(st.integers(0, len(whole) - 1), st.integers(0, 7))
    def flip(place: int, bit: int) -> None:
        content = bytearray(whole)
        content[place] ^= 1 << bit
        (folder / name).write_bytes(content)
        try:
            found = read_spec(folder / name)
        except ModelFileError:
            return
        if name.endswith(".onnx"):
            # The text of the spec is all that no hash covers; the gate holds what it says against the file.
            assert place > content.index(SPEC_NAME[:8].encode())
        else:
            assert found == expected

    flip()


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_the_spec_of_another_file_is_refused(tiny_models: Path, tmp_path: Path, suffix: str) -> None:
    name = f"tiny-fp32{suffix}"
    content, spec_text = (tiny_models / name).read_bytes(), records.dumps(read_spec(tiny_models / "tiny-int8.tflite"))
    target = tmp_path / name
    if suffix == ".onnx":
        onnx = pytest.importorskip("onnx")
        proto = onnx.load_from_string(content)
        onnx.helper.set_model_props(proto, {SPEC_NAME: spec_text})
        target.write_bytes(proto.SerializeToString())
    else:
        target.write_bytes(content[: content.index(b"PK\x03\x04")])
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(SPEC_NAME, spec_text)
    with pytest.raises(ModelFileError, match="the file is damaged, or the spec is another file's"):
        read_spec(target)


@pytest.mark.parametrize("name", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
def test_a_file_from_before_there_was_a_hash_is_read(tiny_models: Path, tmp_path: Path, name: str) -> None:
    document = _document(read_spec(tiny_models / name))
    del document["model_sha256"]
    content, target = (tiny_models / name).read_bytes(), tmp_path / name
    if name.endswith(".onnx"):
        onnx = pytest.importorskip("onnx")
        proto = onnx.load_from_string(content)
        onnx.helper.set_model_props(proto, {SPEC_NAME: json.dumps(document)})
        target.write_bytes(proto.SerializeToString())
    else:
        target.write_bytes(content[: content.index(b"PK\x03\x04")])
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(SPEC_NAME, json.dumps(document))
    assert read_spec(target) == replace(read_spec(tiny_models / name), model_sha256=None)
    assert Classifier(target).predict(Image.new("L", (64, 64), 255)).label == "PNEUMONIA"


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_pipe_is_refused_unread(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(ModelFileError, match="a folder, a device or a pipe"):
        read_spec(tmp_path / f"pipe{suffix}")


def test_a_file_too_large_for_a_model_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(spec.MAX_BYTES + 1)
    with pytest.raises(ModelFileError, match="1,000,000,001 bytes"):
        read_spec(path)


@given(data=st.data())
@example(data=None)
def test_damage_anywhere_gives_a_model_file_error_or_the_same_spec(
    folder: Path, inert_tflite: Path, tiny_models: Path, data: st.DataObject | None
) -> None:
    model_spec = replace(read_spec(tiny_models / "tiny-fp32.tflite"), verification=None, versions={}, notice="")
    target = folder / "damaged.tflite"
    model_spec = write_spec(inert_tflite, target, model_spec)
    content = bytearray(target.read_bytes())
    start = content.index(b"PK\x03\x04")
    if data:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(start, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        content[start:] = content[start:].replace(b"labels.txt", b"labels\xff\xff\xff\xff")
    target.write_bytes(content)
    try:
        found = spec.read(target)
    except ModelFileError:
        return
    # The archive holds a checksum of the spec, so whatever is read is what was written.
    assert found == model_spec


@given(model_specs(), st.sampled_from([(224, 224, 247), (28, 30, 33), (300, 100, 330)]))
def test_a_file_from_before_the_field_is_decoded_as_it_was(model_spec: ModelSpec, size: tuple[int, int, int]) -> None:
    height, width, smallest = size

    def of_before(backbone: str) -> ModelSpec:
        pixels = replace(model_spec.input, height=height, width=width)
        document = _document(replace(model_spec, backbone=backbone, input=pixels))
        del document["input"]["decoding"]
        return spec.parse(json.dumps(document), Path("x.tflite"))

    assert of_before("mobilenetv2").smallest_decoded == smallest
    assert of_before("efficientnetb0").smallest_decoded == math.ceil(1.25 * max(height, width))
    assert of_before("tiny").smallest_decoded is None


@pytest.mark.parametrize("backbone", ["mobilenetv2", "efficientnetb0", "tiny"])
def test_the_file_says_how_far_a_decoder_may_scale(example_spec: ModelSpec, backbone: str) -> None:
    def decoded(least_scale: float | None) -> int | None:
        pixels = replace(example_spec.input, height=100, width=200, decoding=DecodingSpec(least_scale))
        written = records.dumps(replace(example_spec, backbone=backbone, input=pixels))
        return spec.parse(written, Path("x.tflite")).smallest_decoded

    assert (decoded(1.5), decoded(1), decoded(None)) == (300, 200, None)


@pytest.mark.parametrize("least_scale", [0.9, 0, -1, 1e308, "1.1", True])
def test_a_decoder_is_not_let_scale_below_the_input(example_spec: ModelSpec, least_scale: Any) -> None:
    document = _document(example_spec)
    document["input"]["decoding"] = {"least_scale": least_scale}
    with pytest.raises(ModelFileError, match=r"input\.decoding\.least_scale is "):
        spec.parse(json.dumps(document), Path("x.tflite"))
