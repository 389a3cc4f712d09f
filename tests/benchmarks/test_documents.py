"""A JSON document may be truncated, edited or written by another program. It is read, or refused in one line.

By default each document is mutated a few times; ``make mutate-documents`` makes 2,000 mutations.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pneumo_edge import bundled, runs, spec
from pneumo_edge._util import records
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks import verdict, verdict_file
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.cli import app, journal_entries, predictions
from pneumo_edge.converters import proof
from pneumo_edge.data.splits import Entry, Manifest
from pneumo_edge.errors import DataError, ExitCode, PneumoEdgeError, ResultsError, TrainingError
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scoring import scores as scoring
from pneumo_edge.scoring import summary
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel, ShortcutValues
from pneumo_edge.training import reproduction
from pneumo_edge.training.fit import TrainingSettings
from pneumo_edge.training.phases import Epoch, restore_state
from pneumo_edge.training.recipes import RECIPES
from pneumo_edge.training.settings import SETTINGS_NAME, check_settings
from tests.benchmarks import supplements
from tests.benchmarks.mutations import mutated, several
from tests.figures import leave_unrendered
from tests.present import present
from tools.abstention import results as abstention

pytestmark = pytest.mark.filterwarnings("ignore")

_REPOSITORY = Path(__file__).parents[2]


def _invoke(*words: object, allowed: Iterable[int] = (ExitCode.OK, ExitCode.FAILED)) -> str:
    """Run a verb, check that its exit code is documented, and return its standard error."""
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception and not isinstance(result.exception, SystemExit):
        pytest.fail("".join(traceback.format_exception(result.exception)))
    assert result.exit_code in allowed, result.output
    if result.exit_code == ExitCode.FAILED:
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, result.stderr
    return result.stderr


#: Rendering takes most of a report's time, so only some of the mutations render their figures. For the others the
#: figures are built but not rendered.
_RENDERED = st.integers(0, 9).map(lambda number: number == 0)


@contextlib.contextmanager
def _figures(rendered: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not rendered:
            leave_unrendered(patch)
        yield


# Raw results: report, choose, compare


def _shorten(found: raw.Results) -> raw.Results:
    """The same results with few images and calls, and with every part of a supplement."""
    names = list(present(found.test_set).labels)[:8]

    def few(latency: tuple[raw.LatencySamples, ...]) -> tuple[raw.LatencySamples, ...]:
        return tuple(
            replace(each, inference=_first(each.inference), file_to_verdict=_first(present(each.file_to_verdict)))
            for each in latency
        )

    units = tuple(
        replace(each, probabilities={name: each.probabilities[name] for name in names}, latency=few(each.latency))
        for each in found.units
    )
    return replace(
        found,
        test_set=replace(
            present(found.test_set),
            labels={name: present(found.test_set).labels[name] for name in names},
            patients={name: name for name in names},
            left_out={"test/9": "it is no image"},
        ),
        units=units,
        twins=tuple(replace(each, latency=few(each.latency)) for each in found.twins),
        supplement=supplements.supplement(found),
    )


def _first(calls: raw.Calls, number: int = 5) -> raw.Calls:
    stages = {name: column[:number] for name, column in calls.stages_ms.items()}
    return raw.Calls(calls.rounds[:number], calls.wall_ns[:number], present(calls.cpu_ns)[:number], stages)


@pytest.fixture(scope="module")
def results(make_results: Callable[..., raw.Results]) -> Any:
    """Raw results of two backbones in two formats, as plain data."""
    return json.loads(records.dumps(_shorten(make_results(processes=2))))


@pytest.fixture(scope="module")
def whole(results: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole.json"
    path.write_text(json.dumps(results))
    return path


def _use_results(verb: str, path: Path, whole: Path) -> str:
    match verb:
        case "choose":
            return _invoke("choose", path, "--max-latency", "100ms")
        case "compare":
            return _invoke("compare", whole, path, "--fail-on-regression", "5%", allowed=(0, 3, 5))
        case "compare with it":
            return _invoke("compare", path, whole)
        case _:
            return _invoke("report", path, "-o", path.with_suffix(verb))


def test_the_document_that_is_mutated_is_read_by_every_verb(whole: Path, tmp_path: Path) -> None:
    for verb in ("choose", "compare", ".md", ".csv", ".html"):
        path = tmp_path / "results.json"
        path.write_bytes(whole.read_bytes())
        assert "error: the" not in _use_results(verb, path, whole)
        assert verb[0] != "." or path.with_suffix(verb).stat().st_size > 1000


@pytest.mark.slow
@settings(several(60))
@given(data=st.data(), verb=st.sampled_from(["choose", "compare", "compare with it", ".md", ".csv"]))
def test_mutated_results_have_no_traceback(
    data: st.DataObject, verb: str, results: Any, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(data.draw(mutated(results)))
    _use_results(verb, path, whole)


@pytest.mark.slow
@settings(several(20))
@given(data=st.data(), rendered=_RENDERED)
def test_mutated_results_draw_a_page_or_are_refused(
    data: st.DataObject, rendered: bool, results: Any, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(data.draw(mutated(results)))
    with _figures(rendered):
        _use_results(".html", path, whole)


@settings(several(20))
@given(data=st.data())
def test_a_damaged_gzip_is_refused(data: st.DataObject, results: Any, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(json.dumps(results).encode(), 1, mtime=0))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "results.json.gz"
    path.write_bytes(packed[: data.draw(st.integers(place, len(packed)))])
    try:
        raw.read(path)
    except ResultsError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.update(twins=[]), "twins has no A/A unit for litert"),
        (lambda d: d.update(units=[], twins=[], conditions=[]), "there are no units"),
        (lambda d: d["test_set"].update(labels=dict.fromkeys(d["test_set"]["labels"], 0)), "0 of PNEUMONIA"),
        (lambda d: d["test_set"]["labels"].update({"test/0": 2}), "a label is 2, not within 0 to 1"),
        (lambda d: d["units"][0]["probabilities"].update({"test/0": 1.5}), r"units\[0\].probabilities.test/0 is 1.5"),
        (lambda d: d["units"][1]["latency"][0]["file_to_verdict"]["stages_ms"].pop("decode"), "has the stages"),
        (lambda d: d["units"][0]["latency"][0]["file_to_verdict"].update(stages_ms={}), "no time in the stage"),
        (lambda d: d["units"].append(d["units"][0]), "on litert occurs 2 times"),
        (lambda d: d["conditions"][0].update(process=7), "conditions has process 7"),
        (lambda d: d["models"][0].update(size_bytes=0), r"models\[0\].size_bytes is 0, not at least 1"),
        (lambda d: d["machine"].update(memory_bytes=10**400), "machine.memory_bytes"),
        (lambda d: d.update(started="yesterday"), "started is 'yesterday'"),
        (lambda d: d["supplement"]["energy"][0].update(seconds=0), r"supplement.energy\[0\].seconds is 0"),
        (lambda d: d["supplement"]["graphs"][0].update(model="other"), "the supplement names other"),
    ],
)  # fmt: skip
def test_results_that_contradict_themselves_are_refused_by_name(
    edit: Callable[[Any], Any], named: str, results: Any, tmp_path: Path
) -> None:
    document = json.loads(json.dumps(results))
    edit(document)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ResultsError, match=named):
        raw.read(path)
    assert "results.json is not valid" in _invoke("choose", path)


# Scores and metrics: evaluate --scores, card


def _small_scores() -> EvaluationScores:
    images = tuple(ScoredImage(f"test/{i}", i % 2, f"person{i // 2}", "virus" if i % 2 else "") for i in range(8))
    models = (
        ScoredModel(
            f"{backbone}-int8.tflite", letter * 64, 10**6, backbone, "int8", "best", seed, "ImageNet", "X-rays", True,
            0.5, "Youden", "validation", 1.2, "litert", "2.1",
        )
        for backbone, letter, seed in (("mobilenetv2", "a", 0), ("efficientnetb0", "b", 0), ("mobilenetv2", "c", 1))
    )  # fmt: skip
    files = tuple(FileScores(model, tuple(0.1 * i + 0.05 for i in range(8))) for model in models)
    data = ImageSet("X-rays", True, "none", ("NORMAL", "PNEUMONIA"), "test", True, "f" * 64, {"x": "no image"}, images)
    return EvaluationScores(data, (ShortcutValues("file size", "higher", tuple(map(float, range(8)))),), files)


_SCORES = json.loads(records.dumps(_small_scores()))


@pytest.mark.slow
@settings(several(40))
@given(content=mutated(_SCORES), rendered=_RENDERED)
def test_mutated_scores_have_no_traceback(content: bytes, rendered: bool, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with _figures(rendered):
        _invoke("evaluate", "--scores", path)


_METRICS = json.loads((_REPOSITORY / "results" / "evaluation" / "metrics.json").read_bytes())


@pytest.mark.slow
@settings(several(25))
@given(content=mutated(_METRICS))
def test_mutated_metrics_have_no_traceback(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    _invoke("card", "--metrics", path, "--out", tmp_path / "cards")
    _invoke("card", "--metrics", path, "--out", tmp_path / "cards", "--index", tmp_path / "index.md")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d["data"].update(classes={"NORMAL": 624}), "data: classes are 'NORMAL', not two"),
        (lambda d: d["models"][0]["metrics"].pop("auc"), r"models\[0\]: metrics lack auc"),
        (lambda d: d["comparisons"][0]["differences"].pop("brier"), r"comparisons\[0\]: differences lack brier"),
        (lambda d: d["models"][0]["confusion"].update(true_positives=-1), "confusion.true_positives is -1"),
    ],
)
def test_metrics_that_lack_something_are_refused_by_name(
    edit: Callable[[Any], Any], named: str, tmp_path: Path
) -> None:
    document = json.loads(json.dumps(_METRICS))
    edit(document)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ResultsError, match=named):
        summary.read(path)


def test_documents_made_before_are_read() -> None:
    for path in (_REPOSITORY / "results").rglob("scores.json"):
        scoring.read(path)
    for path in (_REPOSITORY / "results" / "uncertain").glob("*.json"):
        abstention.read(path)
    for path in (_REPOSITORY / "results" / "benchmark" / "repeated").glob("0[01].json.gz"):
        raw.read(path)
    for name in bundled.NAMES:
        spec.read(bundled.find(name))


# Documents that are read by a function, without a verb of their own


_SPEC = spec.read(bundled.find("mobilenetv2"))
_RUN = runs.Run(
    "mobilenetv2", _SPEC.class_names, 224, 224, _SPEC.decision, 1.2, _SPEC.data, _SPEC.training, _SPEC.versions, "", "x"
)  # fmt: skip
_SETTINGS = TrainingSettings("mobilenetv2", "best", 0, "random", "f" * 64, RECIPES["best"])
_MANIFEST = Manifest(
    "X-rays", True, "none", "by patient", "f" * 64,
    tuple(Entry(f"{s}/{i}", s, i % 2, f"person{i}", "", "0" * 64) for s in ("train", "val") for i in range(2)), {},
)  # fmt: skip
_STATE = {
    "rows": [asdict(Epoch("head", number, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0)) for number in range(2)],
    "latest": "latest-001.weights.h5",
    "kept": "kept-000.weights.h5",
}
_ABSTENTION = json.loads((_REPOSITORY / "results" / "uncertain" / "mobilenetv2-int8.tflite.json").read_bytes())
_PROOF = json.loads((_REPOSITORY / "results" / "formats" / "mobilenetv2-int8.tflite.proof.json").read_bytes())
_REPRODUCTION = json.loads(
    next((_REPOSITORY / "results" / "report-reproduction").rglob("reproduction.json")).read_bytes()
)


def _read_spec(path: Path) -> None:
    found = spec.parse(path.read_bytes(), path)
    assert found.temperature > 0 and found.task.positive_index == 1
    assert found.decision.threshold is not None and 0 <= found.decision.threshold <= 1
    found.smallest_decoded  # noqa: B018
    if found.input_check:
        for components in (np.zeros(len(found.input_check.mean)), np.full(len(found.input_check.mean), 3e38)):
            assert np.isfinite(found.input_check.distances(components.astype(np.float32)))
    json.dumps(asdict(found), allow_nan=False)


def _read_abstention(path: Path) -> None:
    found = abstention.read(path)
    found.answered()
    if found.input_check:
        found.false_alarms()


_READERS: dict[str, tuple[Any, str, Callable[[Path], object]]] = {
    "ModelSpec": (asdict(_SPEC), "spec.json", _read_spec),
    "run.json": (asdict(_RUN), runs.RECORD_NAME, lambda path: runs.load(path.parent)),
    "split.json": (asdict(_MANIFEST), "split.json", lambda path: Manifest.load(path).counts),
    "settings.json": (asdict(_SETTINGS), SETTINGS_NAME, lambda path: check_settings(path.parent, _SETTINGS)),
    "state.json": (_STATE, "state.json", lambda path: restore_state(path.parent)),
    "proof": (_PROOF, "x.tflite.proof.json", lambda path: proof.load(path.with_name("x.tflite"))),
    "reproduction.json": (_REPRODUCTION, "reproduction.json", lambda path: reproduction.load(path.parent)),
    "uncertain": (_ABSTENTION, "uncertain.json", _read_abstention),
}


@pytest.mark.parametrize("kind", _READERS)
@settings(several(50))
@given(data=st.data())
def test_a_mutated_document_is_read_or_refused_in_one_line(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    document, name, read = _READERS[kind]
    path = tmp_path / name
    path.write_bytes(data.draw(mutated(json.loads(json.dumps(document)))))
    _read_or_refuse(read, path)


@pytest.fixture(scope="module")
def verdict_document(whole: Path) -> Any:
    """The verdict of the raw results, as plain data."""
    found = summarise(raw.read(whole))
    return json.loads(records.dumps(verdict_file.of(found, verdict.decide(found), whole)))


@settings(several(50))
@given(data=st.data())
def test_a_mutated_verdict_is_read_or_refused_in_one_line(
    data: st.DataObject, verdict_document: Any, tmp_path: Path
) -> None:
    path = tmp_path / "verdict.json"
    path.write_bytes(data.draw(mutated(verdict_document)))
    _read_or_refuse(verdict_file.read, path)
    # Given in place of raw results, it is always refused.
    with pytest.raises(ResultsError) as refused:
        raw.read(path)
    assert "\n" not in str(refused.value)


def _read_or_refuse(read: Callable[[Path], object], path: Path) -> None:
    """Read a document; an error is one printable line."""
    try:
        read(path)
    except PneumoEdgeError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 2000
        assert text.isprintable()


@pytest.mark.parametrize(
    ("kind", "error"), [("split.json", DataError), ("settings.json", TrainingError), ("state.json", TrainingError)]
)
def test_a_document_of_nothing_is_an_error_of_its_kind(kind: str, error: type[Exception], tmp_path: Path) -> None:
    _, name, read = _READERS[kind]
    (tmp_path / name).write_text("{}")
    with pytest.raises(error, match="missing"):
        read(tmp_path / name)


def test_a_label_that_is_no_class_is_refused_by_name(tmp_path: Path) -> None:
    document = asdict(_MANIFEST)
    document["entries"][1]["label"] = 2
    (tmp_path / "split.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"entries\[1\].label is 2, not within 0 to 1"):
        Manifest.load(tmp_path / "split.json")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("input_check.limit", -1.0, "input_check.limit is -1.0, not within 0 to"),
        ("input_check.share", 1.0, "input_check.share is 1.0, not above 0 and below 1"),
        ("input_check.scale.0", 0.0, r"input_check.scale\[0\] is 0.0"),
        ("input_check.parts.0", 10**9, "input_check: parts are"),
        ("input_check.mean.0", 1e300, r"input_check.mean\[0\]"),
        ("decision.threshold", 1.01, "decision.threshold is 1.01, not within 0 to 1"),
        ("decision.threshold", float("nan"), "decision.threshold is NaN"),
        ("temperature", 0.0, "temperature is 0.0, not above 0"),
        ("temperature", -2.0, "temperature is -2.0"),
        ("temperature", float("inf"), "temperature is Infinity"),
        ("input.height", 0, "input: height and width are 0 and 224"),
        ("input.width", 10**9, "input: height and width are"),
        ("outputs.0.shape.0", 0, r"outputs\[0\].shape\[0\] is 0"),
        ("outputs.0.shape.0", 10**9, r"outputs\[0\]: shape is .*values"),
        ("conformal.coverage", 1.0, "conformal.coverage is 1.0"),
        ("conformal.least_positive", 1.5, "conformal.least_positive is 1.5"),
        ("conformal.patients.NORMAL", -1, "conformal.patients.NORMAL is -1"),
        ("training.epochs", -1, "training.epochs is -1"),
        ("data.counts.train.NORMAL", -5, "data.counts.train.NORMAL is -5"),
        ("calibration.images", -1, "calibration.images is -1"),
        ("schema_version", 0, "schema_version is 0"),
    ],
)
def test_a_spec_with_a_number_that_cannot_be_is_refused_by_name(field: str, value: object, named: str) -> None:
    document: Any = json.loads(records.dumps(_SPEC))
    *path, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    inside = document
    for part in path:
        inside = inside[part]
    inside[last] = value
    with pytest.raises(PneumoEdgeError, match=named):
        spec.parse(json.dumps(document), Path("x.tflite"))


# predict's journal


_JUDGE = PredictorIdentity(
    "m", "0" * 64, "litert", "2.1", ("NORMAL", "PNEUMONIA"), "PNEUMONIA", remarks=True, strict=False
)
_VERDICT = {
    "source": "a.png", "label": "NORMAL", "probabilities": {"NORMAL": 0.9, "PNEUMONIA": 0.1}, "threshold": 0.5,
    "timings": dict.fromkeys(("read", "decode", "resize", "tensor", "inference", "decision"), 1.0),
    "prediction_set": ["NORMAL"], "distance": 0.5, "limit": 1.0, "uncertain": False, "foreign": False, "total_ms": 6.0,
}  # fmt: skip


@settings(several(100))
@given(data=st.data())
def test_a_line_of_a_journal_is_a_verdict_that_can_be_written_or_none(data: st.DataObject, tmp_path: Path) -> None:
    base = data.draw(st.sampled_from([_VERDICT, {"source": "a.png", "error": "it is no image"}]))
    line = data.draw(mutated(base))
    if journal_entries.is_entry_of(line, "a.png", _JUDGE):
        for suffix in (".csv", ".json", ".jsonl", ".parquet"):
            predictions.write([json.loads(line)], _JUDGE, tmp_path / f"x{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$x^$-int8.tflite", "caf\udce9.tflite", "\x1b[31m\n.tflite", "=1+1.tflite"])
def test_a_report_shows_any_name_of_a_file(name: str, results: Any, tmp_path: Path) -> None:
    document = json.loads(json.dumps(results).replace("mobilenetv2-int8.tflite", json.dumps(name)[1:-1]))
    for model in document["models"]:
        model["backbone"], model["format"] = "mobilenetv2", "int8"
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    for suffix in (".html", ".md", ".csv"):
        assert not _use_results(suffix, path, path)
        path.with_suffix(suffix).read_text("utf-8")


@pytest.mark.parametrize("field", ["backbone", "format"])
@pytest.mark.parametrize("name", ["\ud800", "$x^$", "\x1b[31m\n"])
def test_a_report_shows_any_backbone_and_format(name: str, field: str, results: Any, tmp_path: Path) -> None:
    document = json.loads(json.dumps(results))
    before = document["models"][0][field]
    for model in document["models"]:
        if model[field] == before:
            model[field] = name
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    for suffix in (".html", ".md", ".csv"):
        assert "error: " not in _use_results(suffix, path, path)
