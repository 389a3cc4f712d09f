"""Opens a Keras model that somebody else saved, and brings it into the form that training gives its networks.

Nothing of a file is executed but layers of Keras itself: what holds Python code, or names code that Keras has not, is
refused by name before Keras reads the file, which it then does in its safe mode. Of a SavedModel only operators that
compute numbers of numbers are (:mod:`pneumo_edge.saved_model`).
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pneumo_edge import saved_model
from pneumo_edge._util import extras, files, scratch
from pneumo_edge.errors import ConversionError
from pneumo_edge.saved_model import is_saved_model
from pneumo_edge.scaling import Scaling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: What the last layer of a network gives: a probability of one class, one of each class, or numbers before those.
Output = Literal["sigmoid", "softmax", "logits"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
#: Endings of the files that are read.
SUFFIXES = (".keras", ".h5", ".hdf5")

#: Names that Keras gives to what is no class.
_VALUES = frozenset(
    {"__tuple__", "__list__", "__dict__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__keras_tensor__",
     "slice"}
)  # fmt: skip
#: Layers that hold Python code or TensorFlow operators from outside of Keras, in any of its versions; and one that
#: loads another file.
_CODE = frozenset({"Lambda", "__lambda__", "function"})
_OPERATORS = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "TFSMLayer", "ClassMethod"})
#: Layers that do nothing where a network is used. (RandomCrop crops there, too.)
_IN_TRAINING = frozenset(
    {"Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization",
     "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
     "RandomHeight", "RandomWidth", "RandomShear", "RandomColorJitter", "RandomErasing", "RandomGaussianBlur"}
)  # fmt: skip
#: Arguments that Keras 2 wrote for layers whose names begin so, and Keras 3 has not: they change nothing.
_OF_KERAS_2 = (("DepthwiseConv2D", "groups"), ("Random", "rng_type"))
#: Red, green and blue in a grey value (ITU-R BT.601), as Pillow has them.
_GREY = (0.299, 0.587, 0.114)
_LAYERS_OF_KERAS = "a network of layers that Keras itself has"
_QUOTED = 3
#: Smaller images have no grid of brightness for the input check.
_LEAST_SIDE = 32


@dataclass(frozen=True)
class OwnNetwork:
    """A user's network, taken apart.

    Attributes:
        trunk: A ``keras.Model`` from scaled pixels, red, green and blue, to a feature map or, where ``pools`` is False,
            to a vector.
        pools: Whether global average pooling comes between the trunk and the last layer.
        kernel: Of the dense layer that gives the logits, shape (features, 1 or classes).
        bias: Its bias.
        output: What the network gives.
        size: Height and width of the images; None where the network takes any.
        is_dense: Whether the network has such a dense layer; otherwise its trunk gives the logits, and ``kernel``
            changes nothing.
    """

    trunk: Any
    pools: bool
    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    output: Output
    size: tuple[int, int] | None
    is_dense: bool

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return max(2, len(self.bias))

    def assemble(self, scaling: Scaling, size: tuple[int, int], temperature: float = 1.0) -> Any:
        """Build the network as training would have left it.

        Args:
            scaling: Of the pixels before the network.
            size: Height and width of the images, where the network takes any.
            temperature: By which logits are divided.

        Returns:
            A ``keras.Model`` from float32 pixels (batch, height, width, 3) of 0 to 255 to probabilities (batch,
            classes): scaling, trunk, global average pooling where there is any, a dense layer, softmax.
        """
        import numpy as np

        keras = extras.need("keras", "convert")
        height, width = self.size or size
        image = keras.Input((height, width, 3), name="image")
        tensor = self.trunk_at((height, width))(scaling.build(image, "rescaling"))
        if self.pools:
            tensor = keras.layers.GlobalAveragePooling2D(name="features")(tensor)
        logits = keras.layers.Dense(self.classes, name="logits")
        model = keras.Model(image, keras.layers.Softmax(name="probability")(logits(tensor)))
        # A sigmoid is a softmax over a logit of 0 and its own.
        missing = self.classes - len(self.bias)
        kernel, bias = np.pad(self.kernel, ((0, 0), (missing, 0))), np.pad(self.bias, (missing, 0))
        logits.set_weights([kernel / temperature, bias / temperature])
        return model

    def trunk_at(self, size: tuple[int, int]) -> Any:
        """The trunk for images of a height and width, with the same weights."""
        keras = extras.need("keras", "convert")
        if self.trunk.input_shape[1:3] == size:
            return self.trunk
        copy = keras.models.clone_model(self.trunk, input_tensors=keras.Input((*size, 3)))
        copy.set_weights(self.trunk.get_weights())
        for layer in copy.layers:
            _finalize(layer)
        return copy


def is_own_model(path: Path) -> bool:
    """Whether a path is that of a Keras model or a SavedModel, and not of a training run."""
    return path.suffix.lower() in SUFFIXES or is_saved_model(path)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a model: of its file, or of what is read of a SavedModel's folder."""
    return saved_model.sha256(path) if is_saved_model(path) else files.sha256(path)


def load_trained(path: Path) -> Any:
    """Read the ``.keras`` file of a run: a ``keras.Model``, not compiled."""
    keras = extras.need("keras", "convert")
    return keras.saving.load_model(path, compile=False, custom_objects=saved_model.custom_objects())


@functools.lru_cache(maxsize=1)
def open_network(path: Path, output: Output | None = None) -> OwnNetwork:
    """Read a Keras model of one image, and take it apart; the last one is kept.

    Args:
        path: A ``.keras`` file, an ``.h5`` file of a whole model, of Keras 2 too, or the folder of a SavedModel.
        output: What its last layer gives; by default that layer tells.

    Raises:
        ConversionError: The file cannot be read, holds code, or is no network from one image to classes.
    """
    return take_apart(load(path), path, output)


def load(path: Path) -> Any:
    """Read a Keras model, in safe mode, or a SavedModel.

    Raises:
        ConversionError: As :func:`open_network`.
    """
    if is_saved_model(path):
        return saved_model.load(path)
    keras = extras.need("keras", "convert")
    content = _read(path)
    is_archive = zipfile.is_zipfile(io.BytesIO(content))
    try:
        config = _config_of_archive(content) if is_archive else _config_of_hdf5(content)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"{path} cannot be read as a Keras model ({error})",
            "a file of model.save(), .keras or .h5; weights alone are not enough",
            "Save the whole model again",
        ) from error
    _refuse_code(path, config)
    try:
        with scratch.folder() as folder:
            # The same bytes, under a name by which Keras chooses the right reader.
            copy = folder / ("model.keras" if is_archive else "model.h5")
            copy.write_bytes(content)
            if not is_archive:
                _adapt_hdf5(copy, config)
            return keras.saving.load_model(copy, compile=False, safe_mode=True)
    except Exception as error:  # Keras has no common base class for what it cannot read
        raise ConversionError(
            f"Keras {keras.__version__} does not read {path} ({_short(error)})",
            _LAYERS_OF_KERAS,
            "Save the model again with Keras 3, as .keras",
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConversionError(
            f"{path} cannot be read ({error.strerror})", "a Keras model, .keras or .h5", "Give another path"
        ) from error


def _config_of_archive(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("config.json"))


def _config_of_hdf5(content: bytes) -> Any:
    h5py = extras.need("h5py", "convert")
    with h5py.File(io.BytesIO(content), "r") as file:
        return json.loads(file.attrs["model_config"])


def _adapt_hdf5(path: Path, config: Any) -> None:
    """Take out of a file's configuration what Keras 2 wrote and Keras 3 takes for a mistake."""
    changed = False
    for part in _parts(config):
        arguments = part["config"] if isinstance(part.get("config"), dict) else {}
        for name, argument in _OF_KERAS_2:
            if part["class_name"].startswith(name) and argument in arguments:
                del arguments[argument]
                changed = True
        # Lists of one: the axis of a batch norm, and the ends of a nested network.
        for argument in ("axis", "input_layers", "output_layers"):
            value = arguments.get(argument)
            if isinstance(value, list) and len(value) == 1:
                arguments[argument] = value[0]
                changed = True
    if changed:
        h5py = extras.need("h5py", "convert")
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(config).encode()


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a configuration that names a class."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)


def _refuse_code(path: Path, config: Any) -> None:
    """Refuse a configuration that holds Python code, or names code that Keras has not."""
    code, operators, custom = set(), set(), set()
    for part in _parts(config):
        name, inner = part["class_name"], part.get("config")
        called = inner.get("name", "") if isinstance(inner, dict) else ""
        if name in _CODE:
            code.add(called)
        elif name in _OPERATORS:
            operators.add(called or name)
        elif name not in _VALUES and not _is_of_keras(part):
            custom.add(name)
    if code:
        # The function inside a Lambda layer has no name of its own.
        code = code - {""} or {"a function"}
        raise ConversionError(
            f"{path} holds Python code ({_quote(code)}), which is not run",
            _LAYERS_OF_KERAS,
            "Replace Lambda layers and functions by layers such as Rescaling, or leave scaling out and give it as "
            "--input-range, and save again",
        )
    if operators:
        raise ConversionError(
            f"{path} holds operators of TensorFlow that Keras 3 does not read ({_quote(operators)})",
            _LAYERS_OF_KERAS,
            "Leave scaling such as preprocess_input out of the model and give it as --input-range; build other such "
            "networks with Keras 3, load the weights there, and save again",
        )
    if custom:
        raise ConversionError(
            f"{path} has custom objects ({_quote(custom)}), whose code is not in the file",
            _LAYERS_OF_KERAS,
            "Build the network of Keras's own layers and save again, or export it in Python, convert it to ONNX or "
            "TFLite there, and read that file",
        )


def _is_of_keras(part: dict[str, Any]) -> bool:
    """Whether an object of a configuration is of a class that Keras itself has."""
    if module := part.get("module"):
        return str(module).partition(".")[0] == "keras" and ">" not in (part.get("registered_name") or "")
    # As Keras 2 wrote it.
    keras = extras.need("keras", "convert")
    places = (keras, keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.activations)
    return part["class_name"] == "Functional" or any(hasattr(place, part["class_name"]) for place in places)


def take_apart(model: Any, path: Path, output: Output | None = None) -> OwnNetwork:
    """Find trunk, pooling and last layer of a Keras model.

    Args:
        model: From :func:`load`.
        path: Its file, for messages.
        output: As for :func:`open_network`.

    Raises:
        ConversionError: It is no network from one image to classes.
    """
    import numpy as np

    size = _check_ends(model, path)
    flat = _Flat(model, path)
    tensor, activation = flat.output, ""
    while not activation and (name := flat.activation(tensor)):
        activation, tensor = ("" if name == "linear" else name), flat.input_of(tensor)
    kernel, bias, pools = None, None, False
    layers = extras.need("keras", "convert").layers
    last = flat.layer_of(tensor)
    if is_dense := isinstance(last, layers.Dense) and "linear" in (activation or "linear", last.activation.__name__):
        activation = activation or last.activation.__name__
        kernel, bias = last.get_weights() if last.use_bias else (*last.get_weights(), np.zeros(last.units, np.float32))
        tensor = flat.input_of(tensor)
        pooling = flat.layer_of(tensor)
        if pools := isinstance(pooling, layers.GlobalAveragePooling2D) and not pooling.keepdims:
            tensor = flat.input_of(tensor)
    else:
        kernel, bias = np.eye(tensor.shape[-1], dtype=np.float32), np.zeros(tensor.shape[-1], np.float32)
    found = _settle(path, activation.replace("linear", "") or "logits", len(bias), last, output)
    trunk = extras.need("keras", "convert").Model(flat.input, tensor, name="trunk")
    return OwnNetwork(trunk, pools, kernel, bias, found, size, is_dense)


def _check_ends(model: Any, path: Path) -> tuple[int, int] | None:
    """Height and width (None where it takes any) of a model from one image to numbers by class.

    Raises:
        ConversionError: It is none.
    """
    inputs, outputs = ([tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][3] not in (1, 3):
        raise ConversionError(
            f"{path} takes {' and '.join(map(_shape, inputs))}",
            "one image of (batch, height, width, 3), or 1 for grey ones",
            "Give another model, or build it with the channels last",
        )
    if len(outputs) != 1 or len(outputs[0]) != 2 or not outputs[0][1]:
        raise ConversionError(
            f"{path} gives {' and '.join(map(_shape, outputs))}",
            "one number for each class, (batch, classes), or one for two classes",
            "Give a classifier",
        )
    (_, height, width, _), *_ = inputs
    if (height is None) != (width is None) or (height is not None and not min(height, width) >= _LEAST_SIDE):
        raise ConversionError(
            f"{path} takes images of {_shape(inputs[0])}", f"{_LEAST_SIDE} pixels or more a side", "Give another model"
        )
    return None if height is None else (height, width)


def _settle(path: Path, found: str, units: int, last: Any, given: Output | None) -> Output:
    """What the network gives, by its last activation and by what the user says.

    Raises:
        ConversionError: The two differ, or it is nothing that is decided by.
    """
    # A softmax over one unit is always 1.
    decides = units == 1 if found == "sigmoid" else found != "softmax" or units > 1
    for output in OUTPUTS:
        if output == found and given in (None, output) and decides:
            return output
    raise ConversionError(
        f"the last layer of {path} is {type(last).__name__} with {units} unit{'s' * (units > 1)} and gives {found}"
        + (f", and --output is {given}" if given else ""),
        "a sigmoid of one unit, a softmax of two or more, one for each class, or logits, without an activation",
        f"{'Leave --output out, or give' if given else 'Give'} a model with such a last layer",
    )


class _Flat:
    """A copy of a network with all layers on one level, without those that only training uses, for images in colour.

    Attributes:
        input: Its input, symbolic.
        output: Its output.
    """

    def __init__(self, model: Any, path: Path) -> None:
        self._keras = extras.need("keras", "convert")
        self._path = path
        self._copies: dict[int, Any] = {}
        self._names: set[str] = set()
        #: By the identity of a tensor: the tensor, the layer that made it, and what of.
        self._made: dict[int, tuple[Any, Any, tuple[Any, ...]]] = {}
        *size, channels = model.inputs[0].shape[1:]
        self.input = tensor = self._keras.Input((*size, 3), name="pixels")
        if channels == 1:
            self._names.add("grey")
            tensor = _grey(tensor)
        self.output = self._run(model, tensor)

    def layer_of(self, tensor: Any) -> Any:
        """The layer that made a tensor; None of the input."""
        return self._made[id(tensor)][1] if id(tensor) in self._made else None

    def input_of(self, tensor: Any) -> Any:
        """What the layer made a tensor of."""
        return self._made[id(tensor)][2][0]

    def activation(self, tensor: Any) -> str:
        """Name of the activation where a tensor was made by a layer that is nothing else; "" of another."""
        layer, layers = self.layer_of(tensor), self._keras.layers
        if isinstance(layer, layers.Softmax) and layer.axis == -1:
            return "softmax"
        return str(layer.activation.__name__) if isinstance(layer, layers.Activation) else ""

    def _run(self, model: Any, *tensors: Any) -> Any:
        if isinstance(model, self._keras.Sequential):
            (tensor,) = tensors
            for layer in model.layers:
                tensor = self._call(layer, tensor)
            return tensor
        if not hasattr(model, "_run_through_graph"):
            raise ConversionError(
                f"{self._path} is a subclass of keras.Model, whose graph is not known",
                "a functional or a sequential model",
                "Build it of layers, and save again",
            )
        # What keras.models.clone_model does, but into a graph that is there already.
        outputs = model._run_through_graph(list(tensors), operation_fn=lambda op: functools.partial(self._call, op))
        (output,) = self._keras.tree.flatten(outputs)
        return output

    def _call(self, layer: Any, *tensors: Any, **options: Any) -> Any:
        options = {name: value for name, value in options.items() if name != "training" and value is not None}
        if isinstance(layer, self._keras.Model):
            return self._run(layer, *tensors)
        if type(layer).__name__ in _IN_TRAINING:
            return tensors[0]
        if not isinstance(layer, self._keras.Layer):
            # An operator of Keras has no weights.
            called, output = layer, layer(*tensors, **options)
        elif id(layer) in self._copies:
            called = self._copies[id(layer)]
            output = called(*tensors, **options)
        else:
            called = self._copies[id(layer)] = type(layer).from_config(layer.get_config() | {"name": self._name(layer)})
            output = called(*tensors, **options)
            called.set_weights(layer.get_weights())
            _finalize(called)
        self._made[id(output)] = output, called, tensors
        return output

    def _name(self, layer: Any) -> str:
        name, number = str(layer.name), 1
        while name in self._names:
            number += 1
            name = f"{layer.name}_{number}"
        self._names.add(name)
        return name


def _grey(image: Any) -> Any:
    """Of red, green and blue, the grey value."""
    import numpy as np

    layer = extras.need("keras", "convert").layers.Conv2D(1, 1, use_bias=False, trainable=False, name="grey")
    grey = layer(image)
    layer.set_weights([np.reshape(np.asarray(_GREY, dtype=np.float32), (1, 1, 3, 1))])
    return grey


def _finalize(layer: Any) -> None:
    """Finish a layer that got weights, and works with constants that it makes of them."""
    if isinstance(layer, extras.need("keras", "convert").layers.Normalization):
        layer.finalize_state()


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


def _quote(names: set[str]) -> str:
    return ", ".join(sorted(map(str, names))[:_QUOTED]) + (", ..." if len(names) > _QUOTED else "")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
