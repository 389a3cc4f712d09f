"""Trains a backbone by a recipe: the one function behind ``pneumo-edge train``."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge import extras, files, records, runs
from pneumo_edge.data.sources import CLASS_NAMES, POSITIVE_CLASS
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import TrainingError
from pneumo_edge.evaluation.metrics import Scores, auc, confusion
from pneumo_edge.evaluation.operating_point import YOUDEN, fit_temperature, log_loss, rescale, youden_threshold
from pneumo_edge.progress import bar
from pneumo_edge.runs import Run
from pneumo_edge.spec import RANDOM_WEIGHTS, DataSpec, DecisionSpec, TrainingSpec
from pneumo_edge.training import curves
from pneumo_edge.training.backbones import Backbone
from pneumo_edge.training.network import FEATURES, HEIGHT, LOGITS, WIDTH, InitialWeights, batch_norm_layers, build
from pneumo_edge.training.phases import Epoch, TrainingImages, fit_phase
from pneumo_edge.training.recipes import Augmentation, Phase, Recipe

_SETTINGS_NAME = "settings.json"
_CHECKPOINT_NAME = "checkpoint"
_PREDICT_BATCH = 64
_POSITIVE = CLASS_NAMES.index(POSITIVE_CLASS)


@dataclass(frozen=True)
class Settings:
    """What a run was started with; an interrupted run goes on only with the same."""

    backbone: str
    recipe: str
    seed: int
    weights: str
    fingerprint: str


def train(
    backbone: Backbone,
    recipe: Recipe,
    weights: InitialWeights,
    dataset: Dataset,
    data_path: Path,
    folder: Path,
    cache: Path,
    seed: int,
) -> Run:
    """Train, choose temperature and threshold on validation, and leave a finished run in ``folder``.

    The folder gets ``model.keras``, ``run.json``, ``split.json``, ``history.csv`` and ``curves.png``.
    A run that was interrupted goes on; a run that is finished is returned as it is.

    Args:
        backbone: The backbone.
        recipe: What to do.
        weights: Where the backbone starts from.
        dataset: Manifest and pixels of 224 x 224; its test split is not touched.
        data_path: Where the data lies, for the record.
        folder: The run's folder.
        cache: Folder for features, which runs with the same backbone and data share.
        seed: Decides initialization and the order of images.

    Raises:
        TrainingError: The folder holds a run with other settings, or the weights do not fit.
    """
    settings = Settings(backbone.name, recipe.name, seed, weights.description, dataset.manifest.fingerprint)
    _check_settings(folder, settings)
    if (folder / runs.RECORD_NAME).exists():
        return runs.load(folder)
    keras = extras.need("keras", "train")
    keras.utils.set_random_seed(seed)
    train_indices = dataset.indices("train")
    model = build(backbone, weights, recipe.dropout, dataset.rgb(train_indices[:256]))

    rows = _fit_head(model, recipe, dataset, cache / _features_key(settings), folder / _CHECKPOINT_NAME / "head", seed)
    if recipe.fine_tune:
        rows += _fine_tune(model, recipe.fine_tune, dataset, folder / _CHECKPOINT_NAME / "fine-tune", seed)

    run = _finish(model, settings, dataset, data_path, len(rows))
    dataset.manifest.save(folder / runs.MANIFEST_NAME)
    curves.save(rows, folder)
    with files.atomic(folder / runs.MODEL_NAME) as temporary:
        model.save(temporary)
    run.save(folder)
    shutil.rmtree(folder / _CHECKPOINT_NAME)
    return run


def _check_settings(folder: Path, settings: Settings) -> None:
    path = folder / _SETTINGS_NAME
    if not path.exists():
        files.write_text(path, records.dumps(settings))
        return
    found = records.loads(Settings, path.read_bytes())
    if found != settings:
        given, before = asdict(settings), asdict(found)
        changed = ", ".join(f"{key} {given[key]} (it has {before[key]})" for key in given if given[key] != before[key])
        raise TrainingError(
            f"{folder} holds a run with other settings: {changed}",
            "the settings it was started with",
            "Give another --out, or remove that folder",
        )


def _fit_head(model: Any, recipe: Recipe, dataset: Dataset, cache: Path, folder: Path, seed: int) -> tuple[Epoch, ...]:
    """Fit the dense layer alone, on features of the frozen backbone that are computed once."""
    keras = extras.need("keras", "train")
    train_indices, val_indices = dataset.indices("train"), dataset.indices("val")
    layer = model.get_layer(FEATURES)
    extractor = keras.Model(model.input, layer.output)
    indices = np.concatenate([train_indices, val_indices])
    table = np.zeros((len(dataset.grey), layer.output.shape[-1]), dtype=np.float32)
    table[indices] = _features(extractor, dataset, indices, cache)

    features = keras.Input(table.shape[1:])
    logits = keras.layers.Dense(len(CLASS_NAMES), name=LOGITS)(keras.layers.Dropout(recipe.dropout)(features))
    head = keras.Model(features, keras.layers.Softmax()(logits), name="head")
    rows = fit_phase(
        "head",
        head,
        recipe.head,
        TrainingImages(train_indices, dataset.labels(train_indices), lambda chosen: table[chosen]),
        lambda: _positive(head.predict(table[val_indices], batch_size=_PREDICT_BATCH, verbose=0)),
        dataset.labels(val_indices),
        folder,
        seed,
    )
    model.get_layer(LOGITS).set_weights(head.get_layer(LOGITS).get_weights())
    return rows


def _features(extractor: Any, dataset: Dataset, indices: npt.NDArray[np.intp], cache: Path) -> npt.NDArray[np.float32]:
    """Features of images, (images, features); each finished part is kept, so an interrupted run goes on."""
    parts = []
    starts = range(0, len(indices), 8 * _PREDICT_BATCH)
    with bar("Training: features of the frozen backbone", len(indices)) as advance:
        for start in starts:
            chosen = indices[start : start + 8 * _PREDICT_BATCH]
            path = cache / f"{start:06d}.npy"
            if not path.exists():
                with files.atomic(path) as temporary:
                    np.save(temporary, predict(extractor, dataset, chosen, lambda n: advance(n, "")))
            else:
                advance(len(chosen), "")
            parts.append(np.load(path))
    return np.concatenate(parts)


def _fine_tune(model: Any, phase: Phase, dataset: Dataset, folder: Path, seed: int) -> tuple[Epoch, ...]:
    """Fit the whole network, with each batch-norm layer frozen by itself.

    Keras's ``fit`` reaches into a backbone that was called with ``training=False``, so only this keeps
    the moving statistics from being trained on batches.
    """
    keras = extras.need("keras", "train")
    model.trainable = True
    for layer in batch_norm_layers(model):
        layer.trainable = False
    train_indices, val_indices = dataset.indices("train"), dataset.indices("val")
    # Augmentation sees one grey channel, which is a third of the work of three equal ones.
    grey = keras.Input((HEIGHT, WIDTH, 1))
    changed = _augment(phase.augmentation, seed)(grey) if phase.augmentation else grey
    trainer = keras.Model(grey, model(keras.layers.Concatenate()([changed, changed, changed])))
    return fit_phase(
        "whole network",
        trainer,
        phase,
        TrainingImages(
            train_indices,
            dataset.labels(train_indices),
            lambda chosen: dataset.grey[chosen][..., np.newaxis].astype(np.float32),
        ),
        lambda: _positive(predict(model, dataset, val_indices)),
        dataset.labels(val_indices),
        folder,
        seed,
    )


def _augment(augmentation: Augmentation, seed: int) -> Any:
    keras = extras.need("keras", "train")
    layers, a = keras.layers, augmentation
    return keras.Sequential(
        [
            layers.RandomRotation(a.rotation, fill_mode="constant", seed=seed),
            layers.RandomTranslation(a.translation, a.translation, fill_mode="constant", seed=seed + 1),
            layers.RandomZoom(a.zoom, fill_mode="constant", seed=seed + 2),
            layers.RandomBrightness(a.brightness, value_range=(0, 255), seed=seed + 3),
            layers.RandomContrast(a.contrast, value_range=(0, 255), seed=seed + 4),
        ],
        name="augmentation",
    )


def _finish(model: Any, settings: Settings, dataset: Dataset, data_path: Path, epochs: int) -> Run:
    """Choose temperature and threshold on validation, and fold the temperature into the last layer."""
    val_indices = dataset.indices("val")
    labels = dataset.labels(val_indices)
    scores = _positive(predict(model, dataset, val_indices))
    temperature = fit_temperature(labels, scores)
    kernel, bias = model.get_layer(LOGITS).get_weights()
    model.get_layer(LOGITS).set_weights([kernel / temperature, bias / temperature])
    scores = rescale(scores, temperature)
    threshold = youden_threshold(labels, scores)
    counts = confusion(labels, scores >= threshold)
    manifest = dataset.manifest
    return Run(
        backbone=settings.backbone,
        class_names=CLASS_NAMES,
        height=HEIGHT,
        width=WIDTH,
        decision=DecisionSpec(POSITIVE_CLASS, threshold, YOUDEN, f"validation, {len(labels)} images"),
        temperature=temperature,
        data=DataSpec(manifest.source, manifest.real, manifest.fingerprint, manifest.counts, manifest.licence),
        training=TrainingSpec(
            recipe=settings.recipe,
            seed=settings.seed,
            initial_weights=settings.weights,
            epochs=epochs,
            validation={
                "auc": auc(labels, scores),
                "accuracy": counts.accuracy.value,
                "sensitivity": counts.sensitivity.value,
                "specificity": counts.specificity.value,
                "log_loss": log_loss(labels, scores),
            },
        ),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("pneumo-edge", "keras", "numpy", "pillow")},
            extras.need("keras", "train").backend.backend(): _backend_version(),
        },
        notice="Research software; not a medical device.",
        data_path=str(data_path.resolve()),
    )


def predict(
    model: Any,
    dataset: Dataset,
    indices: npt.NDArray[np.intp],
    done: Callable[[int], None] = lambda images: None,
) -> npt.NDArray[np.float32]:
    """Outputs of a Keras model for images, batch by batch; ``done`` hears of each batch's size."""
    outputs = []
    for start in range(0, len(indices), _PREDICT_BATCH):
        chosen = indices[start : start + _PREDICT_BATCH]
        outputs.append(model.predict_on_batch(dataset.rgb(chosen).astype(np.float32)))
        done(len(chosen))
    return np.concatenate(outputs)


def _positive(outputs: npt.NDArray[np.float32]) -> Scores:
    return outputs[:, _POSITIVE].astype(np.float64)


def _features_key(settings: Settings) -> Path:
    parts = (settings.backbone, settings.weights, settings.fingerprint)
    # Random weights differ with the seed, downloaded ones do not.
    seed = str(settings.seed) if settings.weights == RANDOM_WEIGHTS else ""
    return Path("features") / hashlib.sha256("\n".join((*parts, seed)).encode()).hexdigest()[:16]


def _backend_version() -> str:
    name = extras.need("keras", "train").backend.backend()
    return str(sys.modules[name].__version__)
