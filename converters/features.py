"""The components by which a model file tells whether an image resembles the training images.

The pooled features in front of the last layer are of little use for that: training made them the same for all images of
a class, and an out-of-distribution image lands among the familiar ones. In the middle of the network, where a feature
map still has 1/8 or 1/16 of the image's height and width, channels tell texture and anatomy apart. Their means over
each quarter of the image are turned into principal components of the training images, each with a variance of 1 there,
so that large and small directions count alike. So is the brightness of the image itself on a coarse grid, which
quantization harms least.

How an image was compressed and scaled on its way says nothing of what it shows, and an X-ray at full resolution that is
reduced on the device is not what a data set of small JPEG files holds: it has no compression noise, and has its grain.
So training images count a second time, as they would be at full resolution (:func:`_at_full_resolution`). Directions in
which that moves an image have a large variance, and count for less. The input check is calibrated on training and
validation images in both forms.

TensorFlow is imported where it is used: in the child process.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge import keras_file
from pneumo_edge._util import extras, files
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.imaging import images
from pneumo_edge.spec import COMPONENTS as COMPONENTS_OUTPUT

#: Training images that the components are fitted to, at most.
IMAGES = 800
#: Components of a feature map, and of the image, at most.
_OF_MAP, _OF_IMAGE = 64, 16
#: Cells along each side of the grid over the image; of each, a patch of half its side is looked at.
_CELLS = 8
#: Raise it when the same network and images would give other components.
_VERSION = 5
#: Side of the image over that of a feature map; and how far the side may be from that, because convolutions without
#: padding leave less, and others round up.
_STRIDES = (8, 16)
_LEAST_SIDE, _MOST_SIDE = 0.7, 1.1
_BATCH = 64
_SEED = 1
_LEAST_DEVIATION = 1e-6
#: Side of a block of a JPEG.
_BLOCK = 8
#: How noise is smoothed: pixels to each side; the scale of their weights in pixels; in shades, at least and at most.
_REACH, _NEAR, _ALIKE = 2, 1.5, (4, 12)
#: Standard deviation of the grain in shades, qualities of a further JPEG, and how many times its effect is taken back;
#: each at least and at most.
_GRAIN, _QUALITY, _TAKEN_BACK = (0.5, 1.5), (40, 65), (0.5, 1.5)


def choose(dataset: Dataset) -> npt.NDArray[np.intp]:
    """Choose the training images that the components are fitted to, the same for everyone; sorted indices."""
    train = [int(index) for index in dataset.indices("train")]
    train.sort(key=lambda index: hashlib.sha256(f"features {dataset.manifest.entries[index].sha256}".encode()).digest())
    return np.array(sorted(train[:IMAGES]), dtype=np.intp)


def file_name(model: Path) -> Path:
    """Where the components of a ``.keras`` file lie: beside it."""
    return model.with_name("components.npz")


def key(checkpoint: str, dataset: Dataset, indices: npt.NDArray[np.intp]) -> str:
    """What components follow from, as a SHA-256: network, images, and the version of this module."""
    parts = (str(_VERSION), checkpoint, *(entry.sha256 for entry in dataset.entries(indices.tolist())))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def is_fitted(model: Path, wanted: str) -> bool:
    """Whether the components beside a ``.keras`` file are those of a key."""
    try:
        with np.load(file_name(model), allow_pickle=False) as stored:
            return str(stored["key"]) == wanted
    except Exception:  # numpy and zipfile have no common base class for a broken file
        return False


def expose(trained: Any) -> tuple[Any, list[Any]]:
    """Give a trained network further ends in the middle, where feature maps have 1/8 and 1/16 of the image's side.

    Args:
        trained: A ``keras.Model`` that is a chain of layers, one of which is the backbone.

    Returns:
        The same network, made of new layers around the backbone's own; and symbolic feature maps inside it, of shape
        (batch, height, width, channels): of each side and number of channels the last sum of two branches; in a
        backbone without such sums the last map of each side. There may be none.
    """
    keras = extras.need("keras", "convert")
    backbone = next((layer for layer in trained.layers if isinstance(layer, keras.Model)), None)
    # An operation that is no layer would be lost where the network is made again of its layers.
    is_of_layers = all(isinstance(each, keras.layers.Layer) for each in trained.operations)
    last = _last_maps(backbone, trained.input.shape[1]) if backbone and is_of_layers else []
    if backbone is None or not last:
        return trained, []
    forked = keras.Model(backbone.inputs, [backbone.output, *last], name=backbone.name)
    tensor, maps = trained.input, []
    for layer in trained.layers[1:]:
        if layer is backbone:
            tensor, *maps = forked(tensor)
        else:
            # A layer that is called twice is ambiguous when it is asked for its input.
            new = type(layer).from_config(layer.get_config())
            tensor = new(tensor)
            new.set_weights(layer.get_weights())
    return keras.Model(trained.inputs, tensor, name=trained.name), maps


def _last_maps(backbone: Any, side: int) -> list[Any]:
    """The feature maps of :func:`expose` inside the graph of a backbone, for images of a side."""
    layers = extras.need("keras", "convert").layers
    sums: dict[tuple[int, int], Any] = {}
    others: dict[int, Any] = {}
    for layer in backbone.layers:
        shape: Any = getattr(layer.output, "shape", ())
        is_map = len(shape) == 4 and not isinstance(layer, layers.ZeroPadding2D)
        for stride in _STRIDES if is_map else ():
            if _LEAST_SIDE * side <= stride * shape[1] <= _MOST_SIDE * side:
                others[stride] = layer.output
                if isinstance(layer, layers.Add):
                    sums[shape[1], shape[-1]] = layer.output
    return list((sums or others).values())


def build(image: Any, maps: list[Any], model: Path) -> Any:
    """The components as a tensor of shape (batch, components), or None where there are none beside the model.

    Args:
        image: The network's input, symbolic.
        maps: From :func:`expose`.
        model: A ``.keras`` file.
    """
    keras = extras.need("keras", "convert")
    if not maps or not file_name(model).exists():
        return None
    outputs = []
    with np.load(file_name(model), allow_pickle=False) as stored:
        for index, values in enumerate(_values(image, maps)):
            weights, bias = stored[f"weights{index}"], stored[f"bias{index}"]
            dense = keras.layers.Dense(len(bias), name=f"{COMPONENTS_OUTPUT}_{index}")
            outputs.append(dense(values))
            dense.set_weights([weights, bias])
    return keras.layers.Concatenate()(outputs)


def parts(model: Path) -> tuple[int, ...]:
    """How many components there are beside a ``.keras`` file: of each of its feature maps, and of the image."""
    with np.load(file_name(model), allow_pickle=False) as stored:
        return tuple(len(stored[f"bias{index}"]) for index in range(sum(name.startswith("bias") for name in stored)))


@dataclass(frozen=True)
class Known:
    """What the network makes of the images that the input check is calibrated on; float32 (images, components).

    Attributes:
        training: Components of the training images of :func:`choose`.
        training_moved: How far they move where the images are as at full resolution.
        validation_moved: The same of the validation images.
    """

    training: npt.NDArray[np.float32]
    training_moved: npt.NDArray[np.float32]
    validation_moved: npt.NDArray[np.float32]


def known(model: Path) -> Known:
    """What lies beside a ``.keras`` file for the calibration of the input check."""
    with np.load(file_name(model), allow_pickle=False) as stored:
        return Known(**{field.name: stored[field.name] for field in fields(Known)})


def _values(image: Any, maps: list[Any]) -> list[Any]:
    """What components are made of, tensors of shape (batch, values): of each map, then of the image."""
    return [*(_quarters(tensor) for tensor in maps), _brightness(image)]


def _quarters(tensor: Any) -> Any:
    """The means over each quarter of a feature map, shape (batch, 4 * channels).

    Cut out first, because LiteRT's delegate takes no average pooling of integers, and a mean it does.
    """
    layers = extras.need("keras", "convert").layers
    height, width = (side // 2 for side in tensor.shape[1:3])
    rows, columns = ((0, height), (height, 0)), ((0, width), (width, 0))
    cut = [layers.Cropping2D((row, column))(tensor) for row in rows for column in columns]
    return layers.Concatenate()([layers.GlobalAveragePooling2D()(quarter) for quarter in cut])


def _brightness(image: Any) -> Any:
    """The mean over a patch of each cell of a grid over the image and over its channels, shape (batch, cells)."""
    layers = extras.need("keras", "convert").layers
    strides = [side // _CELLS for side in image.shape[1:3]]
    patch = [stride // 2 for stride in strides]
    convolution = layers.Conv2D(1, patch, strides=strides, use_bias=False, name="brightness")
    means = convolution(image)
    shape = (*patch, image.shape[-1], 1)
    convolution.set_weights([np.full(shape, 1 / np.prod(shape), np.float32)])
    return layers.Flatten()(means)


def restore(image: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Smooth the noise that compression leaves in a greyscale image, and add the white grain of a detector.

    Noise is smoothed by a bilateral filter (Tomasi and Manduchi, ICCV 1998), which leaves edges as they are.

    Args:
        image: uint8 of shape (height, width).
        random: Random generator.
    """
    alike, (height, width) = random.uniform(*_ALIKE), image.shape
    grey = image.astype(np.float32)
    padded = np.pad(grey, _REACH, mode="reflect")
    total, weights = np.zeros_like(grey), np.zeros_like(grey)
    for row in range(2 * _REACH + 1):
        for column in range(2 * _REACH + 1):
            away = (row - _REACH) ** 2 + (column - _REACH) ** 2
            if away <= _REACH**2:
                neighbour = padded[row : row + height, column : column + width]
                weight = np.exp(-((neighbour - grey) ** 2) / (2 * alike**2) - away / (2 * _NEAR**2))
                total += weight * neighbour
                weights += weight
    grained = total / weights + random.normal(0, random.uniform(*_GRAIN), image.shape)
    return np.clip(np.rint(grained), 0, 255).astype(np.uint8)


def recompress(image: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Compress a greyscale image, uint8 of shape (height, width), as a JPEG with other blocks than one of that size."""
    top, left = (int(shift) for shift in random.integers(1, _BLOCK, 2))
    padded = np.pad(image, ((top, _BLOCK - top), (left, _BLOCK - left)), mode="edge")
    stream = io.BytesIO()
    Image.fromarray(padded).save(stream, "JPEG", quality=int(random.integers(*_QUALITY)))
    height, width = image.shape
    return np.asarray(Image.open(stream), dtype=np.uint8)[top : top + height, left : left + width]


def fit(model: Path, grey: npt.NDArray[np.uint8], familiar: npt.NDArray[np.uint8], wanted: str) -> None:
    """Fit the components of a trained network to training images, and keep them beside it as linear maps.

    Args:
        model: A ``.keras`` file.
        grey: Training images, uint8 of shape (images, height, width).
        familiar: Validation images, likewise.
        wanted: The :func:`key` of the components.
    """
    keras = extras.need("keras", "convert")
    trained, maps = expose(keras_file.load_trained(model))
    found: dict[str, npt.NDArray[np.float32]] = {}
    if maps:
        network = keras.Model(trained.inputs, _values(trained.inputs[0], maps))
        random = np.random.default_rng(_SEED)
        training, validation = (_at_full_resolution(network, images, random) for images in (grey, familiar))
        most = [*[_OF_MAP] * len(maps), _OF_IMAGE]
        of_parts: dict[str, list[npt.NDArray[np.float64]]] = {field.name: [] for field in fields(Known)}
        for index, (count, (plain, moved), (_, other_moved)) in enumerate(zip(most, training, validation, strict=True)):
            weights, bias = components(np.concatenate([plain, plain + moved]), count)
            found |= {f"weights{index}": weights.astype(np.float32), f"bias{index}": bias.astype(np.float32)}
            of_parts["training"].append(plain @ weights + bias)
            of_parts["training_moved"].append(moved @ weights)
            of_parts["validation_moved"].append(other_moved @ weights)
        found |= {name: np.concatenate(parts, axis=1).astype(np.float32) for name, parts in of_parts.items()}
    with files.atomic(file_name(model)) as temporary, temporary.open("wb") as stream:
        np.savez(stream, key=np.array(wanted), **found)


def _at_full_resolution(
    network: Any, grey: npt.NDArray[np.uint8], random: np.random.Generator
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """The values of images, and how far these would move if the images had been reduced on the device.

    Noise that is smoothed and grain that is added are a part of it. The other is what compression did to shapes, which
    no filter undoes. A further compression moves the values on in the same direction, so that is taken back.

    Returns:
        For each part of the values both, of shape (images, values).
    """
    taken_back = random.uniform(*_TAKEN_BACK, (len(grey), 1))
    restored, recompressed = (np.stack([change(image, random) for image in grey]) for change in (restore, recompress))
    said = zip(*(_predict(network, images) for images in (grey, restored, recompressed)), strict=True)
    return [(plain, better - plain - taken_back * (worse - plain)) for plain, better, worse in said]


def _predict(network: Any, grey: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float64]]:
    batches = (images.grey_to_rgb(grey[start : start + _BATCH]) for start in range(0, len(grey), _BATCH))
    said = [network.predict_on_batch(batch.astype(np.float32)) for batch in batches]
    return [np.concatenate(values).astype(np.float64) for values in zip(*said, strict=True)]


def components(values: npt.NDArray[np.float64], count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Principal components of standardized values, each with a variance of 1.

    Args:
        values: Shape (images, channels).
        count: How many components, at most; only those that vary are kept.

    Returns:
        ``weights`` of shape (channels, components) and ``bias`` of shape (components,): ``values @ weights + bias``
        are the components.
    """
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST_DEVIATION)
    _, lengths, directions = np.linalg.svd((values - mean) / scale, full_matrices=False)
    deviations = lengths / np.sqrt(len(values))
    kept = np.flatnonzero(deviations > _LEAST_DEVIATION)[:count]
    weights = directions[kept].T / deviations[kept] / scale[:, np.newaxis]
    return weights, -mean @ weights
