"""Studies whose runs are made without training: their table, their comparison, and what takes their folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats  # noqa: TID253
from typer.testing import CliRunner

import pneumo_edge
from pneumo_edge import Classifier, bundled, runs, studies
from pneumo_edge._util import cores, jobs, tabular
from pneumo_edge.api import evaluate
from pneumo_edge.api import study as api
from pneumo_edge.cli import app
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.run_records import data_spec
from pneumo_edge.data.splits import Entry, Manifest
from pneumo_edge.errors import ArgumentError, PneumoEdgeError, ResultsError, TrainingError
from pneumo_edge.evaluation import networks
from pneumo_edge.evaluation.comparison import auc_shares
from pneumo_edge.runs import Run
from pneumo_edge.scale import cluster
from pneumo_edge.spec import DecisionSpec, TrainingSpec
from pneumo_edge.studies import Study, StudyRun
from pneumo_edge.task import PNEUMONIA
from pneumo_edge.training import tasks
from pneumo_edge.training.tasks import Task

#: Validation images of each class, each of a patient of its own: enough for claims.
_IMAGES = 100
_AUCS = {("mobilenetv2", seed): 0.80 + 0.01 * seed for seed in range(3)} | {
    ("resnet50", seed): 0.70 + 0.01 * seed for seed in range(3)
}

MakeStudy = Callable[..., Path]


def _row(backbone: str, seed: int, error: str = "") -> StudyRun:
    return StudyRun(f"{backbone}-quick-{seed}", backbone, "quick", seed, 1, 10**9, error)


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Makes a study with finished runs of the given names and seeds, and rows of others."""

    def make(others: tuple[StudyRun, ...] = (), images: int = _IMAGES) -> Path:
        folder = tmp_path / "study"
        manifest = _manifest(images)
        for number, (backbone, seed) in enumerate(_AUCS):
            _write_run(folder / f"{backbone}-quick-{seed}", backbone, seed, manifest, number)
        rows = tuple(_row(*each) for each in _AUCS)
        Study(str(tmp_path / "data"), manifest.fingerprint, (*rows, *others)).save(folder)
        return folder

    return make


def _manifest(images: int) -> Manifest:
    entries = tuple(
        Entry(f"{label}-{number}.png", "val", label, f"{label}-{number}", "", f"{label:032d}{number:032d}")
        for label in (0, 1)
        for number in range(images)
    )
    return Manifest("phantom images", False, "none", "drawn", "f" * 64, entries, {})


def _scores(number: int, images: int = _IMAGES) -> tuple[list[int], list[float]]:
    rng = np.random.default_rng(number)
    labels = [label for label in (0, 1) for _ in range(images)]
    shift = 1.2 if number < 3 else 0.2
    scores = 1 / (1 + np.exp(-(rng.normal(size=len(labels)) + shift * np.array(labels))))
    return labels, [float(f"{score:.9g}") for score in scores]


def _write_run(folder: Path, backbone: str, seed: int, manifest: Manifest, number: int) -> None:
    folder.mkdir(parents=True)
    network = f"no network {number}".encode()
    (folder / runs.MODEL_NAME).write_bytes(network)
    manifest.save(folder / runs.MANIFEST_NAME)
    labels, scores = _scores(number, len(manifest.entries) // 2)
    lines = [("name", "label", "probability")]
    lines += [(entry.name, label, score) for entry, label, score in zip(manifest.entries, labels, scores, strict=True)]  # type: ignore[misc]
    (folder / runs.VALIDATION_NAME).write_text("".join(tabular.row(line, end="\r\n") for line in lines), newline="")
    Run(
        backbone=backbone,
        class_names=PNEUMONIA.class_names,
        height=96,
        width=96,
        decision=DecisionSpec(PNEUMONIA.class_names[1], 0.5, "youden", "validation"),
        temperature=1.0,
        data=data_spec(manifest),
        training=TrainingSpec("quick", seed, "random", 5, {"auc": _AUCS[backbone, seed], "accuracy": 0.7}),
        versions={"keras": "3"},
        notice="for tests only",
        data_path="data",
        model_sha256=hashlib.sha256(network).hexdigest(),
    ).save(folder)


def test_networks_are_compared_over_seeds_and_patients(make_study: MakeStudy) -> None:
    compared = api.show(make_study()).compared
    assert compared is not None and not compared.notes
    first, second = compared.over_seeds
    assert (first.backbone, first.seeds, second.backbone) == ("mobilenetv2", (0, 1, 2), "resnet50")
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert first.metrics["auc"].mean.value == pytest.approx(0.81)
    assert first.metrics["auc"].mean.high == pytest.approx(0.81 + half)

    patients = [entry.patient for entry in _manifest(_IMAGES).entries]
    labels = np.array(_scores(0)[0])
    shares = [auc_shares(labels, np.array(_scores(number)[1]), patients) for number in range(6)]
    expected = networks.compare(shares[:3], shares[3:]).interval()
    (pair,) = compared.networks
    assert (pair.first_backbone, pair.second_backbone) == ("mobilenetv2", "resnet50")
    assert (pair.auc.value, pair.auc.low, pair.auc.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert pair.different.outcome == "supported" and pair.second_as_accurate.outcome == "refuted"


def test_the_command_shows_every_run_and_why_one_failed(make_study: MakeStudy) -> None:
    folder = make_study((_row("densenet121", 0, "the disk is full"), _row("densenet121", 1), _row("densenet121", 2)))
    (folder / "densenet121-quick-1").mkdir()
    done = CliRunner().invoke(app, ["study", str(folder)])
    assert done.exit_code == 0, done.output
    states = {line.split()[2]: line for line in done.stdout.splitlines() if line.startswith("DenseNet121")}
    assert "failed" in states["0"] and "interrupted" in states["1"] and "not started" in states["2"]
    assert done.stderr == "densenet121-quick-0 failed: the disk is full\n"
    assert done.stdout.count(" finished ") == len(_AUCS)
    assert "0.810 ± 0.010 [0.785, 0.835]" in done.stdout
    assert "MobileNetV2, quick" in done.stdout and " supported p " in done.stdout and " refuted p " in done.stdout
    assert "Run the same command of train again" in done.stdout

    shown = json.loads(CliRunner().invoke(app, ["study", str(folder), "--json"]).stdout)
    assert [run["state"] for run in shown["runs"]][:3] == ["failed", "interrupted", "not started"]
    assert shown["compared"]["over_seeds"][0]["metrics"]["auc"]["mean"]["value"] == pytest.approx(0.81)


@pytest.mark.parametrize(
    ("field", "value", "said"), [("seed", 7, "the seed 7"), ("backbone", "resnet50", "the network resnet50")]
)
def test_a_table_that_differs_from_a_run_is_refused(
    make_study: MakeStudy, field: str, value: object, said: str
) -> None:
    folder = make_study()
    table = json.loads((folder / studies.RECORD_NAME).read_bytes())
    table["runs"][0][field] = value
    (folder / studies.RECORD_NAME).write_text(json.dumps(table))
    done = CliRunner().invoke(app, ["study", str(folder)])
    assert done.exit_code == 3
    assert f"{folder / 'study.json'} has {said} for mobilenetv2-quick-0, and its run.json has" in done.stderr


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "missing"])
def test_a_run_whose_network_is_damaged_is_not_finished(make_study: MakeStudy, cut: bool) -> None:
    folder = make_study()
    network = folder / "resnet50-quick-1" / runs.MODEL_NAME
    network.write_bytes(network.read_bytes()[:5]) if cut else network.unlink()
    done = CliRunner().invoke(app, ["study", str(folder)])
    assert done.exit_code == 0, done.output
    said = "not the file that training wrote" if cut else "missing"
    assert f"resnet50-quick-1 failed: {network} is {said}" in done.stderr
    assert done.stdout.count(" finished ") == len(_AUCS) - 1


def test_a_study_in_training_is_shown_so(make_study: MakeStudy) -> None:
    folder = make_study((_row("densenet121", 0),))
    with (
        jobs.alone(folder / studies.RECORD_NAME, "study", jobs.SAME_COMMAND),
        jobs.alone(folder / "densenet121-quick-0" / runs.RECORD_NAME, "training", jobs.SAME_COMMAND),
    ):
        done = CliRunner().invoke(app, ["study", str(folder)])
    assert " in training " in done.stdout and "The study is in training now" in done.stdout
    assert "Run the same command" not in done.stdout


def test_intervals_of_few_seeds_have_no_impossible_values(make_study: MakeStudy) -> None:
    folder = make_study()
    for seed, auc in ((0, 0.999), (1, 0.5), (2, 0.999)):
        path = folder / f"mobilenetv2-quick-{seed}"
        run = runs.load(path)
        replace(run, training=replace(run.training, validation={"auc": auc, "accuracy": 0.7})).save(path)
    compared = api.show(folder).compared
    assert compared is not None
    mean = compared.over_seeds[0].metrics["auc"].mean
    assert 0 < mean.low < mean.value and mean.high == 1


def test_too_few_images_are_said(make_study: MakeStudy) -> None:
    compared = api.show(make_study(images=20)).compared
    assert compared is not None and not compared.networks and len(compared.over_seeds) == 2
    (note,) = compared.notes
    assert note.startswith("Networks are not compared: too few validation images: 20 of 20 patients")


def test_a_study_stands_for_its_finished_runs(make_study: MakeStudy) -> None:
    folder = make_study((_row("densenet121", 0),))
    assert [path.name for path in studies.expand([folder])] == [f"{backbone}-quick-{seed}" for backbone, seed in _AUCS]
    assert studies.expand([folder / "other", folder / "resnet50-quick-0"]) == [
        folder / "other",
        folder / "resnet50-quick-0",
    ]


def test_a_study_without_a_finished_run_is_not_exported(tmp_path: Path) -> None:
    Study("data", "f" * 64, (_row("resnet50", 0),)).save(tmp_path / "study")
    with pytest.raises(TrainingError, match="has 1 runs, none of them finished"):
        pneumo_edge.export(tmp_path / "study")
    assert api.show(tmp_path / "study").compared is None


def test_export_without_its_extra_stops_before_any_work(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    done = CliRunner().invoke(app, ["export", str(make_study()), "--out", str(tmp_path / "models")])
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.endswith('Run: pip install "pneumo-edge[convert]".') and not (tmp_path / "models").exists()


def test_evaluating_a_study_takes_its_exported_files(make_study: MakeStudy) -> None:
    folder = make_study()
    with pytest.raises(ArgumentError, match=f"no model files were exported .* Run: pneumo-edge export {folder}"):
        pneumo_edge.evaluate(folder)
    with pytest.raises(ArgumentError, match="no data set was given"):
        pneumo_edge.evaluate("mobilenetv2")


def test_runs_without_model_files_are_named_before_a_study_is_evaluated(make_study: MakeStudy) -> None:
    folder, told = make_study(), list[str]()
    (folder / "models").mkdir()
    shutil.copy(bundled.find("mobilenetv2"), folder / "models")
    with pytest.raises(PneumoEdgeError):  # its data do not exist
        pneumo_edge.evaluate(folder, split="val", tell=told.append)
    assert any("6 of the 6 finished runs have no model files" in line for line in told)
    spec = Classifier("mobilenetv2").spec
    row = StudyRun("resnet50-quick-0", spec.backbone, spec.training.recipe, spec.training.seed, 1, 10**9)
    study = studies.load(folder)
    replace(study, runs=(row, *study.runs[1:3])).save(folder)
    told.clear()
    with pytest.raises(PneumoEdgeError):
        pneumo_edge.evaluate(folder, split="val", tell=told.append)
    assert not any("resnet50-quick-0" in line for line in told)


def test_runs_of_other_images_are_not_compared(make_study: MakeStudy) -> None:
    folder = make_study()
    changed = folder / "resnet50-quick-1"
    run = runs.load(changed)
    replace(run, data=replace(run.data, fingerprint="0" * 64)).save(changed)
    with pytest.raises(ResultsError, match=f"{changed} was trained on other images"):
        api.show(folder)


@pytest.mark.parametrize("cut", [0, 30, 400])
def test_a_damaged_file_of_a_run_is_named(cut: int, make_study: MakeStudy) -> None:
    path = make_study() / "resnet50-quick-1" / runs.VALIDATION_NAME
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ResultsError, match=f"{path} cannot be read"):
        api.show(path.parents[1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "the field schema_version is missing"),
        ('{"schema_version": 9}', "has schema 9"),
        (
            '{"schema_version": 1, "data_path": "", "fingerprint": "", "runs": [{"name": "../up", "backbone": "", '
            '"recipe": "", "seed": 0, "cores": 1, "memory_bytes": 1}]}',
            "name is '../up', not that of a folder",
        ),
    ],
)
def test_a_damaged_table_is_refused_in_a_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(text)
    done = CliRunner().invoke(app, ["study", str(tmp_path)])
    assert done.exit_code == 3
    assert done.stderr.startswith("error: ") and said in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_without_a_table_is_no_study(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["study", str(tmp_path)])
    assert done.exit_code == 3
    assert done.stderr == (
        f"error: {tmp_path} holds no study; expected a folder with study.json. "
        "Make one with: pneumo-edge train --study DIR.\n"
    )


@pytest.fixture
def without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Has runs appear without training, but for those of a name; gives the names of those that were tried."""
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(api, "_find_weights", lambda plan, names: dict.fromkeys(names, api._Weights("random", None)))
    tried: list[str] = []

    def train(given: Sequence[Task[Any, Any]], failing: str) -> Iterator[tuple[Task[Any, Any], object]]:
        for number, task in enumerate(given):
            tried.append(task.name)
            if task.name == failing:
                yield task, TrainingError("the disk is full", "space", "Make some")
                continue
            _write_run(Path(task.argument.folder), task.argument.backbone, task.argument.seed, _manifest(2), number)
            yield task, task.argument

    def arrange(failing: str) -> list[str]:
        monkeypatch.setattr(tasks, "here", lambda given: train(given, failing))
        tried.clear()
        return tried

    return arrange


def test_a_run_that_fails_is_named_and_tried_again(
    without_training: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_phantom(tmp_path / "data", seed=1, train_per_class=12, test_per_class=2)
    words = ["train", "--data", str(tmp_path / "data"), "--recipe", "quick", "--study", str(tmp_path / "study")]
    words += ["--backbone", "mobilenetv2", "--backbone", "resnet50"]
    monkeypatch.setattr(cores, "available", lambda: 2)
    refused = CliRunner().invoke(app, [*words, "--seeds", "0-1", "--cores", "200"])
    assert refused.exit_code == 2 and "--cores is 200, and this machine has 2" in refused.stderr
    tried = without_training("resnet50-quick-0")
    done = CliRunner().invoke(app, [*words, "--seeds", "0-1", "--cores", "2"])
    assert done.exit_code == 4, done.output
    assert tried == [f"{name}-quick-{seed}" for seed in (0, 1) for name in ("mobilenetv2", "resnet50")]
    assert "error: resnet50-quick-0 failed: the disk is full; expected space. Make some.\n" in done.stderr
    assert f"Study: 3 of 4 runs are finished. Next: pneumo-edge study {tmp_path / 'study'}" in done.stdout
    failed = {run.name: run.error for run in studies.load(tmp_path / "study").runs if run.error}
    assert failed == {"resnet50-quick-0": "the disk is full; expected space. Make some."}

    tried = without_training("")
    done = CliRunner().invoke(app, [*words, "--seeds", "0-2"])
    assert done.exit_code == 0, done.output
    assert tried == ["resnet50-quick-0", "mobilenetv2-quick-2", "resnet50-quick-2"]
    table = studies.load(tmp_path / "study")
    assert {studies.state(tmp_path / "study", run) for run in table.runs} == {"finished"} and len(table.runs) == 6
    assert {run.cores for run in table.runs if run.seed < 2} == {2}, "a run keeps the cores that it was started with"

    def refuse(given: Sequence[Task[Any, Any]]) -> None:
        raise TrainingError("no node has 8 cores", "fewer", "Give --cores")

    before = (tmp_path / "study" / studies.RECORD_NAME).read_bytes()
    with monkeypatch.context() as a_cluster:
        a_cluster.setattr(cluster, "check", lambda address: None)
        a_cluster.setattr(cluster, "connected", lambda address: contextlib.nullcontext(2))
        a_cluster.setattr(tasks, "check_nodes", refuse)
        done = CliRunner().invoke(app, [*words, "--seeds", "0-3", "--cores", "8", "--address", "auto"])
    assert (done.exit_code, done.stdout.count("finished")) == (3, 0) and "no node has 8 cores" in done.stderr
    assert (tmp_path / "study" / studies.RECORD_NAME).read_bytes() == before, "what is refused adds no runs"

    network = tmp_path / "study" / "resnet50-quick-0" / runs.MODEL_NAME
    network.write_bytes(network.read_bytes()[:5])
    done = CliRunner().invoke(app, [*words, "--seeds", "0-2"])
    assert done.exit_code == 4, done.output
    assert f"error: resnet50-quick-0 failed: {network} is not the file that training wrote" in done.stderr
    assert "Study: 5 of 6 runs are finished" in done.stdout

    make_phantom(tmp_path / "others", seed=2, train_per_class=12, test_per_class=2)
    words[2] = str(tmp_path / "others")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3
    assert f"{tmp_path / 'study'} contains a study of other images" in done.stderr


def test_a_study_is_evaluated_on_its_data_with_separate_test_images(
    without_training: Callable[[str], list[str]], tmp_path: Path
) -> None:
    make_phantom(tmp_path / "data", seed=1, train_per_class=12, test_per_class=2)
    (tmp_path / "data" / "test").rename(tmp_path / "apart")
    without_training("")
    data = DataSource(str(tmp_path / "data"), test=str(tmp_path / "apart"))
    study = pneumo_edge.train_study(data, ["resnet50"], [0], recipe="quick", out=tmp_path / "study")
    assert [run.record.training.seed for run in study.runs] == [0] and not study.failed
    found = evaluate.data_of(tmp_path / "study")
    assert (found.path, found.test, found.labels) == (str(tmp_path / "data"), str(tmp_path / "apart"), None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pneumo_edge.train_study("x", [], [0]), "the backbones are none"),
        (lambda: pneumo_edge.train_study("x", ["resnet50", "resnet50"], [0]), "the backbones are resnet50, resnet50"),
        (lambda: pneumo_edge.train_study("x", ["vgg"], [0]), "backbone is 'vgg'; expected one of mobilenetv2"),
        (lambda: pneumo_edge.train_study("x", ["resnet50"], []), "the seeds are none"),
        (lambda: pneumo_edge.train_study("x", ["resnet50"], [1, 1]), "the seeds are 1, 1"),
        (lambda: pneumo_edge.train_study("x", ["resnet50"], [-1]), "seed is -1"),
        (lambda: pneumo_edge.train_study("x", ["resnet50"], [0], cores=0), "cores is 0"),
        (lambda: pneumo_edge.train_study("x", ["resnet50"], [0], alpha=0.5), "the alpha of ResNet50 is 0.5"),
        (lambda: pneumo_edge.train_study("x", ["resnet50"], [0], out=__file__), "is a file, not a folder"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert said in str(caught.value)
