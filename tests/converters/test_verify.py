"""The gate on right and on broken files, at export and afterwards, through the real engines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from pneumo_edge import Classifier, runs
from pneumo_edge._util import files
from pneumo_edge.cli import app
from pneumo_edge.converters import calibration, interface, isolated, metadata, proof
from pneumo_edge.converters import reference as references
from pneumo_edge.converters.acceptance import Candidate
from pneumo_edge.converters.reference import Reference
from pneumo_edge.converters.verify import verify, verify_again
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import ConversionError, GateError, MissingExtraError, ModelFileError
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.formats import FORMATS, Format
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.task import PNEUMONIA

pytestmark = pytest.mark.slow

_ROWS = list(FORMATS.values())
_POSITIVE = 1


@pytest.fixture(scope="module")
def reference(exported: Path, dataset: Dataset) -> Reference:
    return references.load(exported / "tiny-reference.npz", dataset)


def test_the_gate_passes_a_right_file(exported: Path, reference: Reference) -> None:
    verified = verify(Candidate(exported / "tiny-fp32.tflite", FORMATS["tflite-fp32"], _POSITIVE), reference, "val")
    assert verified.threshold == reference.threshold
    measured = verified.verification.measured
    assert {"litert", "litert, 2 threads"} <= set(measured)
    assert all(result["agreement"] == 1 for result in measured.values())
    assert measured["litert, 2 threads"]["engine_difference"] < 1e-5


def test_the_gate_catches_what_one_engine_alone_gets_wrong(exported: Path, reference: Reference) -> None:
    pytest.importorskip("tflite_runtime")
    path, row = exported / "tiny-dynamic.tflite", FORMATS["tflite-dynamic"]
    verify(Candidate(path, replace(row, engines=("litert",)), _POSITIVE), reference, "val")
    with pytest.raises(GateError, match="on tflite-runtime has a"):
        verify(Candidate(path, row, _POSITIVE), reference, "val")


@pytest.mark.parametrize("fault", ["label order", "stale threshold", "another model"])
def test_the_gate_catches(fault: str, exported: Path, reference: Reference) -> None:
    positive, threshold = (0, None) if fault == "label order" else (_POSITIVE, None)
    if fault == "stale threshold":
        threshold = 0.0
    if fault == "another model":
        reference = replace(reference, scores=np.roll(reference.scores, 1) * 0.5)
    for row in _ROWS:
        with pytest.raises(GateError, match=rf"tiny-{row.name}\.{row.target} on "):
            verify(Candidate(exported / row.file_name("tiny"), row, positive), reference, "val", threshold)


def test_a_file_that_fails_with_its_own_threshold_gets_that_of_keras(
    exported: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, row = exported / "tiny-int8.tflite", FORMATS["tflite-int8"]
    monkeypatch.setattr("pneumo_edge.converters.verify.choose_threshold", lambda *_: 0.0)
    assert verify(Candidate(path, row, _POSITIVE), reference, "val", first_only=True).threshold == reference.threshold
    with pytest.raises(GateError, match="changed decisions"):
        verify(Candidate(path, row, _POSITIVE), reference, "val", threshold=0.0)


def test_every_format_has_keras_heatmap(exported: Path, reference: Reference) -> None:
    assert reference.outputs["heatmap"].shape == (len(reference.labels), 14, 14)
    for row in _ROWS:
        path = exported / row.file_name("tiny")
        assert engines.load_any(path, engines.choose(path)).is_quantized == row.quantized
        spec = read_spec(path)
        assert [(output.name, output.shape) for output in spec.outputs] == [("heatmap", (14, 14))]
        assert spec.verification
        for measured in spec.verification.measured.values():
            assert measured["output_correlation"] >= row.output_bounds.min_output_correlation >= 0.95
            assert measured["output_difference"] <= row.output_bounds.max_output_difference
        classifier = Classifier(path)
        found = classifier.engine.run_all(classifier.as_input(reference.pixels[0]))["heatmap"]
        step = float(np.ptp(reference.outputs["heatmap"])) / 20 if row.quantized else 0.0
        np.testing.assert_allclose(found, reference.outputs["heatmap"][0].ravel(), atol=1e-2 + step)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda heatmap: heatmap[:, ::-1], "a correlation of .* of heatmap"),
        (lambda heatmap: heatmap.swapaxes(1, 2), "a correlation of .* of heatmap"),
        (lambda heatmap: -heatmap, "a correlation of .* of heatmap"),
        (lambda heatmap: 2 * heatmap, "a difference of .* of heatmap"),
        (lambda heatmap: heatmap + 2 * heatmap.std(), "a difference of .* of heatmap"),
    ],
    ids=["upside down", "transposed", "other class", "scaled", "shifted"],
)
@pytest.mark.parametrize("name", ["tflite-fp32", "onnx-fp32"])
def test_the_gate_catches_another_heatmap(
    name: str, fault: Callable[[Any], Any], message: str, exported: Path, reference: Reference
) -> None:
    row, other = FORMATS[name], fault(reference.outputs["heatmap"])
    with pytest.raises(GateError, match=message):
        verify(
            Candidate(exported / row.file_name("tiny"), row, _POSITIVE),
            replace(reference, outputs={"heatmap": other}),
            "val",
        )


def test_another_heatmap_costs_a_quantized_file_the_heatmap_alone(exported: Path, reference: Reference) -> None:
    path, row = exported / "tiny-int8.tflite", FORMATS["tflite-int8"]
    assert not verify(Candidate(path, row, _POSITIVE), reference, "val").failed_outputs
    other = {"heatmap": reference.outputs["heatmap"][:, ::-1]}
    assert verify(Candidate(path, row, _POSITIVE), replace(reference, outputs=other), "val").failed_outputs == {
        "heatmap"
    }


def test_the_gate_catches_an_output_that_is_missing(exported: Path, reference: Reference) -> None:
    outputs = {**reference.outputs, "features": reference.outputs["heatmap"]}
    with pytest.raises(GateError, match="has no output features"):
        verify(
            Candidate(exported / "tiny-fp32.tflite", FORMATS["tflite-fp32"], _POSITIVE),
            replace(reference, outputs=outputs),
            "val",
        )


def _keras_heatmap_by_hand(model: Path, pixels: Pixels) -> Any:
    """The class activation map in Keras's own words: every cell of the last feature map through the dense layer."""
    import keras

    trained = keras.saving.load_model(model, compile=False)
    features = keras.Model(trained.inputs, trained.get_layer("patches").output).predict_on_batch(
        pixels.astype("float32")
    )
    logits = trained.get_layer("logits")(features)
    return np.asarray(logits[..., 1] - logits[..., 0])


def test_keras_heatmap_is_the_dense_layer_on_each_cell(
    tiny_run: Path, reference: Reference, converter: isolated.Child
) -> None:
    by_hand = converter.call(_keras_heatmap_by_hand, tiny_run / runs.MODEL_NAME, reference.pixels[:4])
    np.testing.assert_allclose(reference.outputs["heatmap"][:4], by_hand, atol=1e-5)
    logit = np.log(reference.scores[:4] / (1 - reference.scores[:4]))
    np.testing.assert_allclose(by_hand.mean(axis=(1, 2)), logit, atol=1e-4)


def _scaled_twice(image: Any) -> Any:
    return image / 255


def _channels_swapped(image: Any) -> Any:
    return image[..., ::-1]


def _break_and_convert(model: Path, fault: Callable[[Any], Any], row: Format, pixels: Pixels, target: Path) -> None:
    """In the converters' child process: put a fault in front of a network, and convert that."""
    import keras

    whole = keras.saving.load_model(model, compile=False)
    image = keras.Input(whole.input_shape[1:], name="image")
    broken = target.with_suffix(".keras")
    keras.Model(image, keras.layers.Identity(name="probability")(whole(fault(image)))).save(broken)
    interface.make(interface.Network(broken, PNEUMONIA), row, pixels if row.calibrated else None, target)


def _leave_variables(model: Path, target: Path) -> None:
    """Convert as many guides say, from a concrete function, which leaves a Keras 3 model's variables unfrozen."""
    import keras
    import tensorflow

    whole = keras.saving.load_model(model, compile=False)
    function = tensorflow.function(whole).get_concrete_function(
        tensorflow.TensorSpec((1, *whole.input_shape[1:]), tensorflow.float32, name="image")
    )
    target.write_bytes(tensorflow.lite.TFLiteConverter.from_concrete_functions([function], whole).convert())


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (_scaled_twice, "tflite-fp32"),
        (_scaled_twice, "tflite-int8"),
        (_scaled_twice, "onnx-fp32"),
        (_channels_swapped, "tflite-fp32"),
        (_channels_swapped, "tflite-weight-only"),
        (_channels_swapped, "tflite-int8"),
        (_channels_swapped, "onnx-int8"),
        (_channels_swapped, "onnx-dynamic"),
    ],
)
def test_the_gate_catches_a_broken_export(
    fault: Callable[[Any], Any],
    name: str,
    tiny_run: Path,
    dataset: Dataset,
    reference: Reference,
    converter: isolated.Child,
    tmp_path: Path,
) -> None:
    row = FORMATS[name]
    target = tmp_path / row.file_name("tiny")
    pixels = calibration.pixels(dataset, calibration.choose(dataset, 32))
    if fault is _channels_swapped:
        # With ranges of grey images alone, the tiny network's few features cut off what colours differ in.
        pixels = np.concatenate([pixels, reference.red, reference.red[..., ::-1]])
    converter.call(_break_and_convert, tiny_run / runs.MODEL_NAME, fault, row, pixels, target)
    with pytest.raises(GateError, match="red and blue" if fault is _channels_swapped else "of probability"):
        verify(Candidate(target, row, _POSITIVE), reference, "val")


def test_the_gate_catches_unfrozen_variables(
    tiny_run: Path, reference: Reference, converter: isolated.Child, tmp_path: Path
) -> None:
    target = tmp_path / "tiny-fp32.tflite"
    converter.call(_leave_variables, tiny_run / runs.MODEL_NAME, target)
    with pytest.raises(GateError):
        verify(Candidate(target, FORMATS["tflite-fp32"], _POSITIVE), reference, "val")


def test_a_loss_of_auc_that_cannot_be_ruled_out_is_a_miss(exported: Path) -> None:
    """600 images whose classes overlap; Keras is said to rank them a little better than the file does."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 600)
    brightness = np.clip(rng.normal(110 + 40 * labels, 30), 0, 255).astype(np.uint8)
    pixels = np.broadcast_to(brightness[:, None, None, None], (600, 224, 224, 3))
    file, lenient = exported / "tiny-fp32.tflite", replace(FORMATS["tflite-fp32"].bounds, max_difference=1.0)
    row = replace(FORMATS["tflite-fp32"], bounds=replace(lenient, mean_difference=1, undecided=1))
    own = 1 / (1 + np.exp(-6 * (brightness / 127.5 - 1)))
    told = Reference(
        checkpoint="",
        fingerprint="",
        sha256=np.arange(600).astype(str),
        pixels=pixels,
        labels=labels,
        patients=np.arange(600),
        scores=own,
        threshold=0.5,
        rule=ThresholdRule.YOUDEN,
        red=pixels[:1],
        red_scores=own[:1],
        blue_scores=own[:1],
    )
    measured = verify(Candidate(file, row, _POSITIVE), told, "made up").verification.measured["litert"]
    assert measured["auc_loss"] == 0 == measured["max_auc_loss"]
    better = replace(told, scores=np.clip(own + 0.05 * (2 * labels - 1), 0, 1))
    with pytest.raises(GateError, match="loss of AUC"):
        verify(Candidate(file, row, _POSITIVE), better, "made up")


def test_the_gate_takes_an_engine(exported: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumo_edge._util.extras.is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"pneumo-edge\[onnx\]"):
        verify(Candidate(exported / "tiny-fp32.onnx", FORMATS["onnx-fp32"], _POSITIVE), reference, "val")


def _run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def models(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported files, to be tampered with."""
    return Path(shutil.copytree(exported, tmp_path / "models"))


@pytest.mark.parametrize("with_data", [False, True])
def test_a_file_is_verified_again_by_command(
    with_data: bool, models: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(phantom / "cache"))
    for row in _ROWS:
        if row.id == "tflite-dynamic":
            continue  # see the fixture `rows`
        options: list[str | Path] = ["--data", phantom / "data"] if with_data else []
        code, out, err = _run(models / row.file_name("tiny"), *options)
        assert (code, err.replace("Reading images", "").count("error")) == (0, 0)
        assert ("same decision on" in out and "litert, 2 threads: " in out) or row.target == "onnx"


def test_other_data_is_refused(models: Path, tmp_path: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    data = Path(shutil.copytree(phantom / "data", tmp_path / "data"))
    for image in (data / "train").rglob("*.jpeg"):
        image.write_bytes(image.read_bytes() + b" ")
    code, _, err = _run(models / "tiny-fp32.tflite", "--data", data)
    assert code == 3
    assert "lacks" in err and "--data" in err


def test_classes_in_the_wrong_order_are_found_afterwards(models: Path, tiny_models: Path) -> None:
    model = models / "tiny-fp32.tflite"
    _rewrite(model, tiny_models / "bare" / model.name, class_names=("PNEUMONIA", "NORMAL"))
    code, _, err = _run(model)
    assert code == 5
    assert "tiny-fp32.tflite on litert" in err


def test_a_stale_threshold_is_found_afterwards(models: Path, tiny_models: Path) -> None:
    model = models / "tiny-int8.tflite"
    _rewrite(model, tiny_models / "bare" / model.name, decision=replace(read_spec(model).decision, threshold=0.0))
    code, _, err = _run(model)
    assert code == 5
    assert "changed decisions" in err


def _rewrite(model: Path, bare: Path, **changes: Any) -> None:
    """Write another spec around the bare graph, and a proof that fits the new bytes."""
    spec, record = replace(read_spec(model), **changes), proof.load(model)
    metadata.write_spec(bare, model, spec)
    replace(record, sha256=files.sha256(model), threshold=spec.decision.threshold).save(model)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("tiny-fp32.tflite.proof.json", "there is no proof"),
        ("tiny-reference.npz", "there is no"),
        ("tiny-fp32.tflite", "there is no file"),
    ],
)
def test_what_is_missing_is_named(loss: str, message: str, models: Path) -> None:
    (models / loss).unlink()
    code, _, err = _run(models / "tiny-fp32.tflite")
    assert code == 3
    assert message in err and loss in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["tiny-fp32.tflite", "tiny-reference.npz"])
def test_changed_bytes_are_found(name: str, models: Path) -> None:
    path = models / name
    path.write_bytes(path.read_bytes() + b"\0")
    code, _, err = _run(models / "tiny-fp32.tflite")
    assert code == 3
    assert "SHA-256" in err and name in err


def test_a_broken_reference_is_named(models: Path) -> None:
    path = models / "tiny-reference.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(ConversionError, match="cannot be read"):
        references.load(path)


def test_a_reference_travels_with_a_part_of_its_pixels(exported: Path, dataset: Dataset, tmp_path: Path) -> None:
    whole = references.load(exported / "tiny-reference.npz", dataset)
    many: npt.NDArray[np.intp] = np.arange(500) % len(whole.labels)
    large = replace(
        whole,
        sha256=np.array([f"{index:064d}" for index in range(500)]),
        outputs={name: array[many] for name, array in whole.outputs.items()},
        **{name: getattr(whole, name)[many] for name in ("pixels", "labels", "patients", "scores")},
    )
    references.save(large, tmp_path / "reference.npz")
    travelling = references.load(tmp_path / "reference.npz")
    assert len(travelling.labels) == references.TRAVELLING == len(travelling.pixels)
    assert abs(travelling.labels.mean() - large.labels.mean()) < 0.05
    for digest, pixels, score in zip(travelling.sha256, travelling.pixels, travelling.scores, strict=True):
        index = int(digest)
        assert (pixels == large.pixels[index]).all() and score == large.scores[index]


def _keep_some(models: Path, count: int) -> Reference:
    """Make the validation split of the copied files ``count`` times as large, and let their proofs fit."""
    path = models / "tiny-reference.npz"
    some = references.load(path)
    many: npt.NDArray[np.intp] = np.arange(count) % len(some.labels)
    large = replace(
        some,
        whole=0,
        sha256=np.array([f"{index:064d}" for index in range(count)]),
        patients=np.arange(count),
        outputs={name: array[many] for name, array in some.outputs.items()},
        **{name: getattr(some, name)[many] for name in ("pixels", "labels", "scores")},
    )
    references.save(large, path)
    for row in _ROWS:
        record = proof.load(models / row.file_name("tiny"))
        replace(record, origin=replace(record.origin, reference=files.sha256(path))).save(
            models / row.file_name("tiny")
        )
    return large


@pytest.mark.parametrize(("changed", "code"), [(0, 0), (2, 0), (12, 5)])
def test_decisions_that_change_in_a_sample_are_judged_by_their_chance(changed: int, code: int, models: Path) -> None:
    large = _keep_some(models, 500)
    travelling = np.flatnonzero(large.travelling)
    scores = large.scores.copy()
    assert large.threshold is not None
    # As many of the images that travel are decided otherwise by Keras, each by a little.
    nearest = travelling[np.argsort(np.abs(scores[travelling] - large.threshold))[:changed]]
    scores[nearest] = large.threshold + np.where(scores[nearest] >= large.threshold, -1e-6, 1e-6)
    references.save(replace(large, scores=scores), models / "tiny-reference.npz")
    model = models / "tiny-int8.tflite"
    record = proof.load(model)
    replace(record, origin=replace(record.origin, reference=files.sha256(models / "tiny-reference.npz"))).save(model)
    spec = read_spec(model)
    _set_threshold(model, large.threshold)
    result, out, err = _run(model)
    assert result == code, err
    assert ("verified on 64 images" in out) == (code == 0)
    assert (f"{changed} changed decisions of 64" in err) == (code == 5)
    assert "Keras model; expected at most" in err or code == 0
    assert "export" not in err, "of a file with no run at hand"
    assert spec.format == "int8"


def _set_threshold(model: Path, threshold: float) -> None:
    spec, bare = read_spec(model), model.with_name(f"bare-{model.name}")
    shutil.copy(model, bare)
    metadata.write_spec(bare, model, replace(spec, decision=replace(spec.decision, threshold=threshold)))
    replace(proof.load(model), sha256=files.sha256(model), threshold=threshold).save(model)


def test_further_engines_see_the_images_that_travel(exported: Path, dataset: Dataset) -> None:
    whole = references.load(exported / "tiny-reference.npz", dataset)
    many: npt.NDArray[np.intp] = np.arange(300) % len(whole.labels)
    large = replace(whole.at(many), whole=0, sha256=np.array([f"{index:064d}" for index in range(300)]))
    chosen = large.with_travelling(100)
    assert len(chosen) == 100 == len(set(chosen.tolist()))
    assert set(np.flatnonzero(large.travelling)) <= set(chosen.tolist())
    assert large.at(chosen).of == 300


def test_all_files_are_verified_and_the_worst_code_is_the_last(models: Path, tmp_path: Path) -> None:
    good, bad = models / "tiny-fp32.tflite", models / "tiny-int8.tflite"
    _set_threshold(bad, 0.0)
    missing = tmp_path / "missing.tflite"
    code, out, err = _run(missing, bad, good)
    assert code == 5
    assert f"{good}: verified on" in out
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [path in line for path, line in zip((str(missing), str(bad)), lines, strict=True)] == [True, True]
    code, out, err = _run(missing, good)
    assert code == 3 and f"{good}: verified on" in out and str(missing) in err
    assert _run(good)[0] == 0


def test_advice_fits_a_file_that_was_changed(models: Path) -> None:
    path = models / "tiny-fp32.tflite"
    path.write_bytes(path.read_bytes() + b"\0")
    _, _, err = _run(path)
    assert "export it again" not in err and "Copy it again" in err


def test_every_format_is_checked_on_an_engine_that_is_named(exported: Path) -> None:
    """Formats do not have to pass there; the others are refused in words."""
    pytest.importorskip("openvino")
    row = engines.ENGINES["openvino"]
    passed, refused = {}, {}
    for each in FORMATS.values():
        try:
            verified = verify_again(exported / each.file_name("tiny"), None, Path(), [row.name])
        except (GateError, ModelFileError) as error:
            refused[each.id] = str(error)
        else:
            passed[each.id] = verified.verification
    assert refused.keys() <= {"tflite-weight-only", "tflite-integer-only", "tflite-int16x8"}, refused
    assert "does not tell its scale" in refused["tflite-integer-only"]
    for verification in passed.values():
        assert list(verification.engines) == ["openvino"]
        assert list(verification.measured) == ["openvino", "openvino, 2 threads"]
