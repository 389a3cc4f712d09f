"""Which operators of a network full-integer quantization harms: each one quantized alone, the others left in float.

``make sensitivity`` runs this module in the repository's root: it scans the float32 TFLite files that it is given,
keeps a table of each in ``results/formats``, and draws those tables as ``docs/images/sensitivity.png``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge import formats
from pneumo_edge._util import extras, files
from pneumo_edge._util.cache import cache_folder
from pneumo_edge._util.progress import bar
from pneumo_edge.converters import calibration, tflite
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ConversionError, PneumoEdgeError
from pneumo_edge.formats import FORMATS
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import ModelSpec

RESULTS = Path("results/formats")
FIGURE = Path("docs/images/sensitivity.png")

#: Number of validation images for each operator, evenly spread.
_IMAGES = 64
_CALIBRATION_IMAGES = 100
_SUFFIX = "-sensitivity.csv"
#: Okabe and Ito's palette, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
#: Operators of the figure by what they do in these networks; others are drawn as one.
_KINDS = {
    "CONV_2D": "convolution",
    "DEPTHWISE_CONV_2D": "depthwise convolution",
    "LOGISTIC": "sigmoid, of swish and squeeze-and-excite",
    "MUL": "product, of swish and squeeze-and-excite",
    "ADD": "sum, of residuals and scaling",
    "MEAN": "mean over the map",
    "FULLY_CONNECTED": "dense layer",
}
_OTHER = "other"


@dataclass(frozen=True)
class Sensitivity:
    """One operator, quantized alone.

    Attributes:
        index: Its place in the graph, from 0.
        operator: Its type, as TFLite names it.
        output: Name of its output tensor.
        log_odds_change: Mean absolute change of the log-odds of the positive class over the images; 0 where the
            quantizer leaves this operator alone.
    """

    index: int
    operator: str
    output: str
    log_odds_change: float


def scan(
    model: Path, spec: ModelSpec, representative: Pixels, images: Pixels, done: Callable[[], None]
) -> list[Sensitivity]:
    """Quantize each operator of a float network alone, weights per channel and activations to int8.

    Operators that the format ``int8`` leaves in float are passed over. The quantizer is ai-edge-quantizer, which starts
    from the file; its ranges run from the lowest to the highest value, as a moving average over the images.

    Args:
        model: A float32 TFLite file.
        spec: Its ModelSpec.
        representative: Calibration images, uint8 of shape (images, height, width, 3).
        images: Images to classify, in the same form.
        done: Called after each operator.

    Raises:
        ConversionError: It is not a float32 TFLite file.
    """
    if formats.find(model.suffix, spec.format) != FORMATS["tflite-fp32"]:
        raise ConversionError(f"{model} is a file of {spec.format}", "a .tflite file of fp32", "Give that file")
    quantizers = extras.need("ai_edge_quantizer.quantizer", "convert")
    recipes = extras.need("ai_edge_quantizer.recipe", "convert")
    content = bytearray(model.read_bytes())
    signature, name = _input(content)
    inputs = {signature: [{name: image[np.newaxis].astype(np.float32)} for image in representative]}
    # LiteRT warns of the memory that the quantizer takes to look at every tensor.
    warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve_all_tensors`")
    ranges = quantizers.Quantizer(content, recipes.static_wi8_ai8()).calibrate(inputs, num_threads=1)
    exact = _log_odds(bytes(content), spec, images)
    scanned = []
    for index, operator, output in _operators(content):
        alone = quantizers.Quantizer(content)
        alone.add_static_config(
            regex=f"^{re.escape(output)};?$", operation_name="*", activation_num_bits=8, weight_num_bits=8
        )
        with contextlib.redirect_stdout(io.StringIO()) as chatter, contextlib.redirect_stderr(chatter):
            quantized = bytes(alone.quantize(ranges).quantized_model)
        change = float(np.abs(_log_odds(quantized, spec, images) - exact).mean())
        scanned.append(Sensitivity(index, operator, output, change))
        done()
    return scanned


def _input(content: bytearray) -> tuple[str, str]:
    """Name of the signature of a file, and of its one input."""
    runner = extras.need("ai_edge_litert.interpreter", "convert").Interpreter(model_content=bytes(content))
    ((signature, parts),) = runner.get_signature_list().items()
    return str(signature), str(parts["inputs"][0])


def _operators(content: bytearray) -> list[tuple[int, str, str]]:
    """Place, type and output of each operator that leads to the probabilities and that ``int8`` quantizes."""
    schema = extras.need("ai_edge_litert.schema_py_generated", "convert")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]

    def kind(operator: Any) -> str:
        code = model.operatorCodes[operator.opcodeIndex]
        return str(names[max(code.builtinCode, code.deprecatedBuiltinCode)])

    # The probabilities come first; what leads to other outputs alone cannot harm them.
    needed = {graph.outputs[0]}
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
    return [
        (index, kind(operator), graph.tensors[operator.outputs[0]].name.decode())
        for index, operator in enumerate(graph.operators)
        if needed.intersection(operator.outputs) and kind(operator) not in tflite.IN_FLOAT
    ]


def _log_odds(content: bytes, spec: ModelSpec, images: Pixels) -> npt.NDArray[np.float64]:
    """Log-odds of the positive class for each image, from float32 probabilities."""
    runner = extras.need("ai_edge_litert.interpreter", "convert").Interpreter(model_content=content, num_threads=1)
    runner.allocate_tensors()
    image, probability = runner.get_input_details()[0]["index"], runner.get_output_details()[0]["index"]
    said = []
    for pixels in images:
        runner.set_tensor(image, pixels[np.newaxis].astype(np.float32))
        runner.invoke()
        said.append(runner.get_tensor(probability)[0])
    # A float32 probability near 1 has lost what the one near 0 beside it still has, so both are kept from 0.
    probabilities = np.maximum(np.asarray(said, dtype=np.float64), 1e-9)
    positive = spec.task.scores(probabilities)
    others = probabilities.sum(axis=1) - positive
    return np.asarray(np.log(positive) - np.log(others))


def write(scanned: list[Sensitivity], path: Path) -> None:
    """Keep a scan as CSV."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Sensitivity)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in scanned)
    files.write_text(path, text.getvalue())


def read(path: Path) -> list[Sensitivity]:
    """Read a scan.

    Raises:
        ConversionError: The file is not one of :func:`write`.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [
                Sensitivity(int(row["index"]), row["operator"], row["output"], float(row["log_odds_change"]))
                for row in csv.DictReader(stream)
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConversionError(
            f"{path} cannot be read ({error})", "a table of make sensitivity", "Scan again"
        ) from error


def draw(scans: dict[str, list[Sensitivity]], path: Path) -> None:
    """Draw scans, one below the other on one scale, an operator a bar, by its place in the graph.

    Args:
        scans: By the backbone's name.
        path: The file to write; its ending chooses the format.
    """
    extras.need("matplotlib", "train")
    from matplotlib.figure import Figure

    colours = dict(zip((*_KINDS.values(), _OTHER), _COLOURS, strict=True))
    present = {_KINDS.get(row.operator, _OTHER) for scanned in scans.values() for row in scanned}
    kinds = [kind for kind in colours if kind in present]
    figure = Figure(figsize=(10, 2.6 * len(scans) + 0.8), layout="constrained", dpi=130)
    axes = figure.subplots(len(scans), 1, squeeze=False, sharey=True)[:, 0]
    for place, (backbone, scanned) in zip(axes, scans.items(), strict=True):
        for kind in kinds:
            rows = [row for row in scanned if _KINDS.get(row.operator, _OTHER) == kind]
            place.bar([row.index for row in rows], [row.log_odds_change for row in rows], 0.9, color=colours[kind])
        place.set_title(backbone, loc="left", fontweight="bold")
        place.set_ylabel("change of log-odds")
        place.margins(x=0.01)
    axes[-1].set_xlabel("operator, in the order of the graph")
    figure.legend(
        [axes[0].bar([0], [0], color=colours[kind]) for kind in kinds], kinds, loc="outside lower center", ncols=3
    )
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])


def _spread(dataset: Dataset) -> Pixels:
    indices = dataset.indices("val")
    return dataset.rgb(indices[np.linspace(0, len(indices) - 1, _IMAGES).astype(int)])


def main() -> None:
    """Scan the files that are given, and draw all scans that are kept."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", type=Path, nargs="*", help="float32 TFLite files; without any it only draws")
    parser.add_argument("--data", type=Path, help="the data that they were trained on")
    given = parser.parse_args()
    if given.models and not given.data:
        parser.error("--data is needed to scan")
    try:
        for model in given.models:
            spec = read_spec(model)
            dataset = prepare(open_source(given.data), cache_folder(), spec.input.height, spec.input.width)
            representative = calibration.pixels(dataset, calibration.choose(dataset, _CALIBRATION_IMAGES))
            with bar(f"Scanning {model.name}", len(_operators(bytearray(model.read_bytes())))) as advance:
                scanned = scan(model, spec, representative, _spread(dataset), lambda: advance(1, ""))
            write(scanned, RESULTS / f"{spec.backbone}{_SUFFIX}")
        kept = sorted(RESULTS.glob(f"*{_SUFFIX}"), reverse=True)
        draw({path.name.removesuffix(_SUFFIX): read(path) for path in kept}, FIGURE)
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
