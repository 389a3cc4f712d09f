from __future__ import annotations

import gc
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import Classifier, ModelSpec
from pneumo_edge._util import extras
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ImageError, MissingExtraError, ModelFileError, NoAnswerError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import ConformalSpec, DecisionSpec

#: Every kind of file on every engine that runs it, and how far its probabilities may be from the exact ones.
_PAIRS = [
    ("tiny-fp32.tflite", "litert", 1e-4),
    ("tiny-fp32.tflite", "tflite-runtime", 1e-4),
    ("tiny-int8.tflite", "litert", 0.01),
    ("tiny-int8.tflite", "tflite-runtime", 0.01),
    ("tiny-fp32.onnx", "onnxruntime", 1e-4),
]
_on_every_engine = pytest.mark.parametrize(("file", "engine", "bound"), _PAIRS)


def _classifier(folder: Path, file: str, engine: str, threads: int = 1) -> Classifier:
    if not extras.is_installed(engines.ENGINES[engine].library):
        pytest.skip(f"{engine} is not installed")
    return Classifier(folder / file, engine=engine, threads=threads)


def _grey(level: int) -> Image.Image:
    return Image.new("L", (300, 200), level)


def _encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@_on_every_engine
@pytest.mark.parametrize("level", [0, 40, 110, 140, 200, 255])
def test_the_probability_is_that_of_the_network_by_hand(
    tiny_models: Path, file: str, engine: str, bound: float, level: int
) -> None:
    result = _classifier(tiny_models, file, engine).predict(_grey(level))
    expected = 1 / (1 + math.exp(-6 * (level / 127.5 - 1)))
    assert result.probabilities == pytest.approx({"NORMAL": 1 - expected, "PNEUMONIA": expected}, abs=bound)
    assert result.label == ("PNEUMONIA" if level > 127 else "NORMAL")
    assert result.threshold == 0.5


@_on_every_engine
def test_path_string_bytes_and_pillow_image_give_the_same_bits(
    tiny_models: Path, tmp_path: Path, file: str, engine: str, bound: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (150, 130, 3)).astype(np.uint8)
    path = tmp_path / "x-ray.png"
    path.write_bytes(_encode(Image.fromarray(noise)))
    classifier = _classifier(tiny_models, file, engine)
    with Image.open(path) as image:
        inputs: list[Path | str | bytes | Image.Image] = [path, str(path), path.read_bytes(), image]
        results = [classifier.predict(each) for each in inputs]
    assert len({tuple(result.probabilities.values()) for result in results}) == 1
    assert [result.source for result in results] == [str(path), str(path), "bytes", "PngImageFile"]


@_on_every_engine
def test_the_engine_tells_what_it_is(tiny_models: Path, file: str, engine: str, bound: float) -> None:
    loaded = _classifier(tiny_models, file, engine, threads=2).engine
    assert loaded.name == engine
    assert loaded.threads == 2
    assert loaded.version[0].isdigit()
    assert loaded.input_shape == (1, 224, 224, 3)
    assert loaded.input_dtype == ("uint8" if "int8" in file else "float32")
    assert loaded.output_shape == (1, 2)
    assert (loaded.delegation.to == "none") == (loaded.delegation.partitions == 0)


@_on_every_engine
def test_an_engine_that_is_run_twice_answers_twice(tiny_models: Path, file: str, engine: str, bound: float) -> None:
    classifier = _classifier(tiny_models, file, engine)
    first = classifier.predict(_grey(0))
    kept = dict(first.probabilities)
    assert classifier.predict(_grey(255)).label != first.label
    assert first.probabilities == kept
    assert classifier.predict(_grey(0)).probabilities == kept


def test_a_prediction_is_plain_data(tiny_models: Path) -> None:
    result = Classifier(tiny_models / "tiny-fp32.tflite").predict(_encode(_grey(200)))
    document = json.loads(json.dumps(result.to_dict()))
    assert document["label"] == "PNEUMONIA"
    assert document["probabilities"] == result.probabilities
    assert list(document["timings"]) == ["read", "decode", "resize", "tensor", "inference", "decision"]
    assert min(document["timings"].values()) >= 0
    assert document["total_ms"] == pytest.approx(sum(document["timings"].values()))


def test_an_image_that_cannot_be_judged_leaves_the_classifier_usable(tiny_models: Path, tmp_path: Path) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    for bad in (tmp_path / "missing.png", b"text", Image.new("L", (1, 1)), Image.new("CMYK", (64, 64))):
        with pytest.raises(ImageError):
            classifier.predict(bad)
    assert classifier.predict(_grey(255)).label == "PNEUMONIA"


def test_the_threshold_itself_is_positive(tiny_models: Path) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    assert classifier.decide({"NORMAL": 0.5, "PNEUMONIA": 0.5}) == "PNEUMONIA"
    assert classifier.decide({"NORMAL": 0.5, "PNEUMONIA": math.nextafter(0.5, 0)}) == "NORMAL"


def test_below_the_threshold_the_most_probable_other_class_is_reported(tiny_models: Path) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    decision = replace(classifier.spec.decision, positive_class="B", threshold=0.9)
    classifier.spec = replace(classifier.spec, class_names=("A", "B", "C"), decision=decision)
    assert classifier.decide({"A": 0.05, "B": 0.8, "C": 0.15}) == "C"
    assert classifier.decide({"A": 0.02, "B": 0.95, "C": 0.03}) == "B"


def test_without_a_positive_class_the_most_probable_one_is_reported(tiny_models: Path) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    least = {"A": 0.2, "B": 0.5, "C": 0.0}
    classifier.spec = replace(
        classifier.spec,
        class_names=("A", "B", "C"),
        decision=DecisionSpec(None, None, "argmax", "nothing"),
        outputs=(),
        conformal=ConformalSpec(0.9, None, None, {"A": 9, "B": 9, "C": 9}, "nothing", least),
    )
    assert classifier.decide({"A": 0.2, "B": 0.3, "C": 0.5}) == "C"
    # Of two that are as probable the first, as numpy has it.
    assert classifier.decide({"A": 0.4, "B": 0.4, "C": 0.2}) == "A"
    assert classifier.prediction_set({"A": 0.2, "B": 0.3, "C": 0.5}) == ("A", "C")
    assert classifier.prediction_set({"A": 0.1, "B": 0.9, "C": 0.0}) == ("B", "C")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@_on_every_engine
def test_an_inference_has_the_threads_that_were_asked_for(
    tiny_models: Path, file: str, engine: str, bound: float
) -> None:
    def count() -> int:
        gc.collect()
        return len(list(Path("/proc/self/task").iterdir()))

    # The first one of an engine may start a thread of the library's own.
    alone = _classifier(tiny_models, file, engine, threads=1)
    alone.predict(_grey(0))
    before = count()
    helped = _classifier(tiny_models, file, engine, threads=4)
    helped.predict(_grey(0))
    # tflite-runtime's own operators, which run where XNNPACK has none for this processor, have threads beside its.
    assert 3 <= count() - before <= (6 if engine == "tflite-runtime" else 3)


@_on_every_engine
@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_at_all_is_refused(tiny_models: Path, file: str, engine: str, bound: float, threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads is {threads}, not from 1 to 256"):
        _classifier(tiny_models, file, engine, threads=threads)


@pytest.mark.parametrize("wrong", [{"threads": 1.5}, {"threads": "2"}, {"max_pixels": "a"}])
def test_what_is_no_whole_number_is_a_type_error(tiny_models: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} is .*not a whole number"):
        Classifier(tiny_models / "tiny-fp32.tflite", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "engine", "expected"),
    [
        ("tiny-fp32.tflite", "onnxruntime", "litert or tflite-runtime or openvino"),
        ("tiny-fp32.onnx", "litert", "onnxruntime or openvino"),
        ("tiny-fp32.tflite", "tensorrt", "litert or tflite-runtime or openvino"),
    ],
)
def test_an_engine_for_other_files_is_refused(tiny_models: Path, file: str, engine: str, expected: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        Classifier(tiny_models / file, engine=engine)
    assert repr(engine) in caught.value.given
    assert caught.value.expected == expected


# A spec at odds with its file


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"])
@pytest.mark.parametrize("wrong", ["height", "dtype", "classes"])
def test_a_spec_at_odds_with_its_file_is_refused(tiny_models: Path, tmp_path: Path, file: str, wrong: str) -> None:
    spec = read_spec(tiny_models / file)
    changed: dict[str, ModelSpec] = {
        "height": replace(spec, input=replace(spec.input, height=128)),
        "dtype": replace(
            spec, input=replace(spec.input, dtype="uint8" if spec.input.dtype == "float32" else "float32")
        ),
        "classes": replace(spec, class_names=("NORMAL", "PNEUMONIA", "COVID")),
    }
    write_spec(tiny_models / "bare" / file, tmp_path / file, changed[wrong])
    with pytest.raises(ModelFileError) as caught:
        Classifier(tmp_path / file)
    assert f"takes {spec.input.dtype} of shape (1, 224, 224, 3) and gives shape (1, 2)" in caught.value.given
    assert "as its ModelSpec says" in caught.value.expected


@pytest.mark.parametrize(
    "output",
    [[math.nan, math.nan], [math.nan, 1.0], [math.inf, 0.0], [-0.01, 1.0], [3.0, -2.0], [0.2, 0.2], [0.0, 0.0]],
    ids=str,
)
def test_what_is_no_probability_is_refused(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, output: list[float]
) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    monkeypatch.setattr(classifier.engine, "run", lambda tensor: np.array(output, np.float32))
    with pytest.raises(NoAnswerError, match="2 probabilities that sum to 1"):
        classifier.predict(_grey(100))


@pytest.mark.parametrize("explain", [False, True])
def test_an_engine_that_fails_in_the_middle_is_named_with_its_words(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, explain: bool
) -> None:
    def fail(tensor: object) -> None:
        raise RuntimeError("node 7 failed to invoke")

    classifier = Classifier(tiny_models / "tiny-fp32.tflite", engine="litert")
    for name in ("run", "run_all"):
        monkeypatch.setattr(classifier.engine, name, fail)
    with pytest.raises(ModelFileError, match=r"litert cannot run .*tiny-fp32\.tflite \(node 7 failed to invoke\)"):
        classifier.predict(_grey(100), explain=explain)


def test_a_sum_that_is_rounded_is_accepted(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    monkeypatch.setattr(classifier.engine, "run", lambda tensor: np.array([0.25, 0.746], np.float32))
    assert classifier.predict(_grey(100)).label == "PNEUMONIA"


# A library that is missing or broken

_LIBRARIES = ("ai_edge_litert", "tflite_runtime", "onnxruntime")


@pytest.fixture
def fresh_imports() -> Iterator[None]:
    """Engines are imported anew in the test, and afterwards are what they were."""

    def imported() -> list[str]:
        return [name for name in sys.modules if name.startswith((*_LIBRARIES, "pneumo_edge.runtime.engines."))]

    kept = {name: sys.modules.pop(name) for name in imported()}
    yield
    for name in imported():
        del sys.modules[name]
    sys.modules.update(kept)


def _hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Make libraries look as if they were not installed."""

    class Hiding(MetaPathFinder):
        def __init__(self, finder: MetaPathFinder) -> None:
            self.finder = finder

        def find_spec(self, name: str, path: object = None, target: object = None) -> object:  # type: ignore[override]
            hidden = name.partition(".")[0] in libraries
            return None if hidden else self.finder.find_spec(name, path, target)  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "meta_path", [Hiding(finder) for finder in sys.meta_path])  # type: ignore[arg-type]


@pytest.mark.usefixtures("fresh_imports")
@pytest.mark.parametrize(
    ("file", "engine", "extra"),
    [
        ("tiny-fp32.tflite", "litert", "litert"),
        ("tiny-fp32.tflite", "tflite-runtime", "tflite"),
        ("tiny-fp32.onnx", "onnxruntime", "onnx"),
    ],
)
def test_a_missing_engine_is_named_with_its_extra(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, file: str, engine: str, extra: str
) -> None:
    library = engines.ENGINES[engine].library
    _hide(monkeypatch, *_LIBRARIES)
    with pytest.raises(MissingExtraError) as caught:
        Classifier(tiny_models / file, engine=engine)
    assert caught.value.given == f"the Python package {library} is not installed"
    assert caught.value.remedy == f'Run: pip install "pneumo-edge[{extra}]"'


@pytest.mark.usefixtures("fresh_imports")
def test_without_any_engine_both_extras_are_offered(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A library of its own cannot be imported twice in a process, so it is not among the others.
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    _hide(monkeypatch, *_LIBRARIES, "openvino")
    with pytest.raises(MissingExtraError) as caught:
        Classifier(tiny_models / "tiny-fp32.tflite")
    assert caught.value.given == "no engine for .tflite files is installed"
    assert 'pip install "pneumo-edge[litert]" or: pip install "pneumo-edge[tflite]"' in caught.value.remedy


@pytest.mark.usefixtures("fresh_imports")
def test_the_spec_of_a_tflite_file_is_read_without_any_engine(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide(monkeypatch, *_LIBRARIES)
    assert read_spec(tiny_models / "tiny-int8.tflite").name == "tiny-int8"


@pytest.mark.usefixtures("fresh_imports")
def test_the_next_best_engine_is_taken(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tflite_runtime")
    assert Classifier(tiny_models / "tiny-fp32.tflite").engine.name == "litert"
    for name in [name for name in sys.modules if name.startswith("ai_edge_litert")]:
        monkeypatch.delitem(sys.modules, name)
    _hide(monkeypatch, "ai_edge_litert")
    assert Classifier(tiny_models / "tiny-fp32.tflite").engine.name == "tflite-runtime"


@pytest.mark.usefixtures("fresh_imports")
@pytest.mark.parametrize("broken", ["__init__.py", "interpreter.py"])
@pytest.mark.parametrize("error", ["ImportError", "SystemError", "AttributeError", "RuntimeError", "OSError"])
def test_a_library_that_does_not_import_is_named_with_its_reason(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: str
) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '2.14.0'\n")
    (package / broken).write_text(f"raise {error}('libfoo.so.1 is\\nmissing')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError) as caught:
        Classifier(tiny_models / "tiny-fp32.tflite", engine="tflite-runtime")
    assert str(caught.value) == (
        "the Python package tflite_runtime does not import (libfoo.so.1 is missing); expected the extra 'tflite' of "
        'pneumo-edge. Run: pip install "pneumo-edge[tflite]".'
    )
