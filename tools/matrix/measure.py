"""Measures a network in every format on every engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumo_edge import runs
from pneumo_edge._util import extras, files
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.backbones import Backbone
from pneumo_edge.benchmarks import machine, statistics, worker
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, Job, Plan, Unit
from pneumo_edge.converters import acceptance, convert, prepare, tflite
from pneumo_edge.converters.acceptance import Candidate
from pneumo_edge.converters.isolated import Child
from pneumo_edge.converters.prepare import Prepared
from pneumo_edge.data.run_records import data_spec, save_validation
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare as prepare_data
from pneumo_edge.errors import ConversionError, GateError, MissingExtraError, ModelFileError, PneumoEdgeError
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.formats import FLOAT32, FORMATS, Format
from pneumo_edge.runs import Run
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.spec import DecisionSpec, TrainingSpec
from pneumo_edge.training import network
from pneumo_edge.training.initial_weights import InitialWeights
from tools.matrix.network_records import Cell, FormatRecord, InFloat, NetworkRecord

#: Images that the batch-norm statistics of random weights are taken from.
_STATISTICS_IMAGES = 256
#: Short: the table is a survey. What decides between files is a benchmark of its own.
SETTINGS = BenchmarkSettings("rapid", processes=3, queries=30, seconds=0.3, most_seconds=3, warmups=3)
#: Calibration images; an export takes more.
_CALIBRATION_IMAGES = 32
#: The format whose operators are tried in float where it fails.
_BLAMED = "tflite-int8"
#: Operators that compute nothing in int8, and the one that the format leaves in float.
_PASSED_OVER = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "PAD", *tflite.IN_FLOAT})


def measure(
    row: Backbone,
    weights: InitialWeights,
    data: Path,
    place: Path,
    child: Child,
    formats: Sequence[Format] = tuple(FORMATS.values()),
    settings: BenchmarkSettings = SETTINGS,
) -> NetworkRecord:
    """Train the head of a network, convert it to formats, and check and time each file on each engine.

    Args:
        row: The network.
        weights: What its backbone starts from.
        data: A data set of X-rays.
        place: Folder for what is made.
        child: A child process for TensorFlow.
        formats: Rows of the table of formats.
        settings: How files are timed.

    Raises:
        PneumoEdgeError: The network cannot be trained or opened.
    """
    started, run = time.monotonic(), place / "run"
    child.call(train_head, row, weights, data, run)
    opened = prepare.open_run(run, runs.load(run), cache_folder(), data)
    prepared = _with_few_calibration_images(prepare.prepare(opened, place, child))
    # All are queued first: the child converts the next file while this process checks one.
    waiting = [(each, convert.start(prepared, each, place, child).file) for each in formats]
    made = [_finish(prepared, each, conversion, child) for each, conversion in waiting]
    timed = _time(prepared, made, place, settings)
    return NetworkRecord(
        network=row.name,
        title=row.title,
        weights=weights.description,
        side=row.side,
        data=opened.run.data.name,
        images=len(prepared.reference.labels),
        calibration_images=prepared.representative.images,
        validation=opened.run.training.validation,
        versions=convert.versions() | machine.library_versions(),
        machine=machine.describe(),
        settings=settings,
        seconds=round(time.monotonic() - started, 1),
        formats=timed,
    )


def train_head(row: Backbone, weights: InitialWeights, data: Path, folder: Path) -> None:
    """In the child process: write a finished run of a network whose last layer alone was fitted, on features."""
    keras, linear = extras.need("keras", "train"), extras.need("sklearn.linear_model", "dev")
    keras.utils.set_random_seed(0)
    dataset = prepare_data(open_source(data), cache_folder(), row.side, row.side)
    manifest, task = dataset.manifest, dataset.manifest.task
    train, val = dataset.indices("train"), dataset.indices("val")
    pixels = dataset.rgb(train)
    spread = np.linspace(0, len(pixels) - 1, _STATISTICS_IMAGES).astype(int)
    model = network.build(row, weights, 0.0, pixels[spread], len(task.class_names))
    layer = model.get_layer(network.FEATURES)
    features = keras.Model(model.input, layer.output).predict(pixels.astype(np.float32), batch_size=64, verbose=0)
    # One number for all features: each by its own would give those that hardly vary the largest weights.
    deviation = features.std()
    fitted = linear.LogisticRegression(max_iter=1000).fit(features / deviation, dataset.labels(train))
    slopes = fitted.coef_.T / deviation
    bias = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
    model.get_layer(network.LOGITS).set_weights([np.concatenate([-slopes, slopes], axis=1) / 2, bias])

    labels = task.targets(dataset.labels(val))
    scores = task.scores(model.predict(dataset.rgb(val).astype(np.float32), batch_size=64, verbose=0))
    threshold = choose_threshold(ThresholdRule.YOUDEN, labels, scores)
    folder.mkdir()
    manifest.save(folder / runs.MANIFEST_NAME)
    save_validation(dataset, val, {"probability": scores}, folder / runs.VALIDATION_NAME)
    model.save(folder / runs.MODEL_NAME)
    Run(
        backbone=row.name,
        class_names=task.class_names,
        height=row.side,
        width=row.side,
        decision=DecisionSpec(task.positive_class, threshold, ThresholdRule.YOUDEN, "validation"),
        temperature=1.0,
        data=data_spec(manifest),
        training=TrainingSpec(
            "head-only", 0, weights.description, 0, runs.validation_metrics(labels, scores, threshold)
        ),
        versions={},
        notice="Research software; not a medical device.",
        data_path=str(data),
        model_sha256=files.sha256(folder / runs.MODEL_NAME),
    ).save(folder)


def _with_few_calibration_images(prepared: Prepared) -> Prepared:
    whole = prepared.representative
    # The first image spans 0 to 255.
    pixels = whole.pixels[np.linspace(0, len(whole.pixels) - 1, _CALIBRATION_IMAGES).astype(int)]
    return replace(prepared, representative=replace(whole, images=len(pixels), pixels=pixels, other_pixels=None))


def _finish(prepared: Prepared, row: Format, conversion: convert.Conversion, child: Child) -> FormatRecord:
    """Wait for a file, and check it on each engine of its format."""
    try:
        convert.finish(conversion, conversion.path.name)
    except ConversionError as error:
        return FormatRecord(row.id, 0, error.given, {}, tuple(Cell(name, "", error.given) for name in row.engines))
    found = [_check(prepared, row, conversion.path, engines.ENGINES[name]) for name in row.engines]
    operators = next((each for _, each in found if each), {})
    cells = tuple(cell for cell, _ in found)
    tried = _try_in_float(prepared, row, operators, child) if row.id == _BLAMED and cells[0].failure else ()
    return FormatRecord(row.id, conversion.path.stat().st_size, "", operators, cells, tuple(tried))


def _check(prepared: Prepared, row: Format, path: Path, info: engines.EngineInfo) -> tuple[Cell, dict[str, int]]:
    """The cell of a file on an engine, not timed yet; and the operators in the file, none where it does not load."""
    reference, operators = prepared.reference, dict[str, int]()
    cell = Cell(info.name, "", "")
    try:
        loaded = acceptance.load(Candidate(path, row, prepared.opened.run.task.positive_index), info, threads=1)
        engine = loaded.engine
        to, delegated = engine.delegation.to, dict(engine.delegation.operators)
        cell = replace(cell, version=engine.version, delegated_to=to, delegated=delegated)
        operators = dict(engine.read_graph().operators)
        answers = acceptance.ask(loaded, reference)
        # An export chooses a quantized file's own threshold, by more images; among few it jumps from one to the next.
        comparison = acceptance.compare(loaded, reference, answers, reference.threshold)
        measured = {name: each for name, each in vars(comparison.measured).items() if each is not None}
        cell = replace(cell, measured=measured)
        acceptance.check(loaded, comparison, reference, reference)
    except MissingExtraError:
        cell = replace(cell, failure=f"{info.name} is not installed")
    except (GateError, ModelFileError) as error:
        cell = replace(cell, failure=_reason(error, path))
    return cell, operators


def _try_in_float(prepared: Prepared, row: Format, operators: Iterable[str], child: Child) -> list[InFloat]:
    """Make an int8 file again with each kind of operator in float."""
    tried = []
    for kind in sorted(set(operators) - _PASSED_OVER):
        path = prepared.out / f"{kind}-in-float.{row.target}"
        try:
            made = child.call(
                tflite.int8, prepared.opened.network, prepared.representative.pixels, (*tflite.IN_FLOAT, kind)
            )
        except ConversionError:
            continue  # without such a file, nothing is known of this kind
        path.write_bytes(made.content)
        cell, _ = _check(prepared, row, path, engines.ENGINES[row.engines[0]])
        if cell.measured:
            tried.append(InFloat(kind, not cell.failure, cell.measured["mean_difference"], cell.measured["agreement"]))
    return sorted(tried, key=lambda each: (not each.passes, -each.agreement, each.mean_difference))


def _reason(error: PneumoEdgeError, path: Path) -> str:
    """Why a file does not pass, without the folder and the name of the file."""
    text = f"{error.given}; expected {error.expected}" if isinstance(error, GateError) else error.given
    return text.replace(f"{path.parent}{os.sep}", "").removeprefix(f"{path.name} on ")


def _time(
    prepared: Prepared, made: Sequence[FormatRecord], place: Path, settings: BenchmarkSettings
) -> tuple[FormatRecord, ...]:
    """Time the files that an engine loads side by side, in fresh processes, and put the results into their cells."""
    medians: dict[tuple[str, str], list[float]] = {}
    for name in dict.fromkeys(cell.engine for each in made for cell in each.cells if cell.delegated_to):
        ids = [each.format for each in made if any(cell.engine == name and cell.delegated_to for cell in each.cells)]
        files_of = {each: place / FORMATS[each].file_name(prepared.opened.run.backbone) for each in ids}
        jobs = tuple(Job(Unit(path.name, name, 1), str(path), "", Given()) for path in files_of.values())
        for process in range(settings.processes):
            samples = worker.work(Plan("latency", jobs, (), settings, process), lambda steps: None).latency
            for each, sample_ in zip(ids, samples, strict=True):
                assert sample_.inference.cpu_ns
                medians.setdefault((each, name), []).append(float(np.median(sample_.inference.cpu_ns)) / 1e6)

    def timed(row: Format, cell: Cell) -> Cell:
        own = medians.get((row.id, cell.engine))
        if own is None:
            return cell
        whole = medians.get((f"{row.target}-{FLOAT32}", cell.engine))
        ratio = statistics.paired_ratio(own, whole) if whole else None
        return replace(cell, cpu_ms=float(np.median(own)), ratio=ratio)

    return tuple(replace(each, cells=tuple(timed(FORMATS[each.format], cell) for cell in each.cells)) for each in made)
