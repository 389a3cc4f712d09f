"""``pneumo_edge.adopt``: gives a model file of another tool a ModelSpec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import outputs
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, PathArgument, Tell
from pneumo_edge.backbones import LEAST_SIDE_ELSEWHERE, MOST_SIDE
from pneumo_edge.converters import adopt as adopting
from pneumo_edge.converters.adopt import LAYOUTS, OUTPUTS, Adoption
from pneumo_edge.spec import ModelSpec


@dataclass(frozen=True)
class AdoptedFile:
    """A copy of a model file that carries a ModelSpec. It can be used wherever a path of a model file can.

    Attributes:
        path: The ``.tflite`` or ``.onnx`` file.
        spec: The ModelSpec in the file; ``spec.training.validation`` has what was measured.
    """

    path: Path
    spec: ModelSpec

    def __fspath__(self) -> str:
        return str(self.path)


def adopt(
    model: PathArgument,
    data: DataArgument,
    *,
    input_range: str | None = None,
    layout: str | None = None,
    output: str | None = None,
    image_size: int | None = None,
    accept_input_range: bool = False,
    out: PathArgument = "models",
    tell: Tell = arguments.print_line,
) -> AdoptedFile:
    """Make a model file of another tool usable with ``Classifier``, ``evaluate`` and ``benchmark``.

    The file is measured on the validation images, a threshold is chosen, and a copy with a ModelSpec is written. Graph
    and weights stay byte for byte.

    Args:
        model: A ``.tflite`` or ``.onnx`` classifier of one image, with one output.
        data: Labelled images: a path, or a :class:`pneumo_edge.DataSource`. Its classes are in the order of the model's
            output.
        input_range: What pixels are scaled to before the model: ``"0..255"``, ``"0..1"``, ``"-1..1"``, ``"imagenet"``,
            ``"caffe"``, ``"LOW..HIGH"`` or ``"mean=M;std=S"``. Without it, the error names the one that fits best.
        layout: ``"nhwc"`` or ``"nchw"``, where its channels stand; by default told by its shape.
        output: ``"probabilities"`` or ``"logits"``; by default told by its last operator and values.
        image_size: Height and width of the images in pixels, 8 to 512, for a model of any size.
        accept_input_range: Keep ``input_range`` although another one is right more often.
        out: Folder for the file.
        tell: Called with each note and warning, a line each; by default they are printed on standard error.

    Returns:
        The file and its ModelSpec.

    Raises:
        ArgumentError: An argument has a wrong value, or the file would replace the original.
        DataError: The data cannot be used.
        ConversionError: The file is not a classifier of one image, does not fit the data, or has a ModelSpec already.
        GateError: Another scaling is right more often, or ``input_range`` was not given.
        ModelFileError: The file cannot be read, or the engine refuses it.
        MissingExtraError: No engine for the file is installed.

    Example:
        >>> adopted = pneumo_edge.adopt("classifier.onnx", "chest_xray", input_range="imagenet")
        >>> adopted.spec.training.validation["auc"]
        0.97
    """
    if layout is not None:
        arguments.check_name("layout", layout, LAYOUTS)
    if output is not None:
        arguments.check_name("output", output, OUTPUTS)
    if image_size is not None:
        image_size = arguments.whole("image_size", image_size, LEAST_SIDE_ELSEWHERE, MOST_SIDE)
    path, folder = Path(model), Path(out)
    target = folder / path.name
    outputs.check_folder(folder)
    outputs.check_file(target, [path])
    adoption = Adoption(
        path,
        input_range,
        next((each for each in LAYOUTS if each == layout), None),
        next((each for each in OUTPUTS if each == output), None),
        image_size,
        accept_input_range,
    )
    source = datasets.open_data(data, tell=tell)
    return AdoptedFile(target, adopting.adopt(adoption, source, target, cache_folder(), tell))
