"""A port in Python: numpy, Pillow and an engine, without pneumo-edge.

    python port.py KIT RESULTS.json

It classifies the images of the test vectors, and writes what `pneumo-edge kit check KIT RESULTS.json` grades. Engines:
ai-edge-litert or tflite-runtime for a .tflite file, onnxruntime for an .onnx file.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
MIN_SIDE, MAX_PIXELS = 28, 50_000_000


def decode(path: Path) -> Any:
    """Upright pixels, uint8 of shape (height, width) or (height, width, 3); ValueError says why not."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS or min(image.size) < MIN_SIDE:
            raise ValueError(f"the image is {image.width}x{image.height} pixels")
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise ValueError("several frames")
        if image.mode not in MODES or ";16" in str(image.tile):
            raise ValueError(f"the mode {image.mode}")
        image.load()
        upright = ImageOps.exif_transpose(image)
    return np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB"))


def to_grey(pixels: Any) -> Any:
    """Grey pixels, uint8 of shape (height, width)."""
    if pixels.ndim == 2:
        return pixels
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


def resize(grey: Any, height: int, width: int) -> Any:
    """Grey pixels of another size; Pillow's BILINEAR has antialiasing."""
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR))


def to_tensor(spec: Any, grey: Any) -> Any:
    """The tensor of the model."""
    size, scaling = spec["input"], spec["input"]["scaling"]
    planes = []
    for channel in range(size["channels"]):
        plane = grey.astype(np.float64)
        if scaling:
            plane = plane * scaling["scale"][channel] + scaling["offset"][channel]
            if scaling["step"] is not None:
                limits = np.iinfo(size["dtype"])
                plane = np.clip(np.rint(plane / scaling["step"]) + scaling["zero_point"], limits.min, limits.max)
        planes.append(plane.astype(size["dtype"]))
    return np.ascontiguousarray(np.stack(planes, axis=0 if size["layout"] == "nchw" else -1)[np.newaxis])


class TfliteEngine:
    """Runs a .tflite file."""

    def __init__(self, path: Path, shape: Any) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            from tflite_runtime.interpreter import Interpreter
        self.model: Any = Interpreter(model_path=str(path), num_threads=1)
        self.index = self.model.get_input_details()[0]["index"]
        self.model.resize_tensor_input(self.index, shape)
        self.model.allocate_tensors()

    def run(self, tensor: Any) -> list[Any]:
        """All outputs in their order."""
        self.model.set_tensor(self.index, tensor)
        self.model.invoke()
        return [self.read(each) for each in self.model.get_output_details()]

    def read(self, details: Any) -> Any:
        """An output, dequantized."""
        values = self.model.get_tensor(details["index"])[0]
        if values.dtype.kind in "iu":
            scale, zero_point = details["quantization"]
            values = (values.astype(np.float32) - zero_point) * scale
        return values.astype(np.float32)


class OnnxEngine:
    """Runs an .onnx file."""

    def __init__(self, path: Path, shape: Any) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def run(self, tensor: Any) -> list[Any]:
        """All outputs in their order."""
        return [values[0] for values in self.session.run(None, {self.name: tensor})]


def to_probabilities(spec: Any, values: Any) -> Any:
    """The probability of each class, from the first output."""
    values = np.asarray(values, np.float64)
    if spec["scores"] == "logits":
        powers = np.exp(values - values.max())
        return powers / powers.sum()
    if spec["scores"] == "logit":
        values = 0.5 * (1 + np.tanh(values / 2))
    if spec["scores"] in ("logit", "probability"):
        return np.array([1 - values[0], values[0]])
    return values


def answer(spec: Any, outputs: Any) -> dict[str, Any]:
    """Label, prediction set and remarks."""
    names, decision, bounds = spec["class_names"], spec["decision"], spec["conformal"]
    values = dict(zip(names, to_probabilities(spec, outputs["probability"]).tolist(), strict=True))
    positive = decision["positive_class"]
    if positive is not None and values[positive] >= decision["threshold"]:
        label = positive
    else:
        label = max((name for name in names if name != positive), key=values.__getitem__)
    plausible = None
    if bounds and bounds["least"]:
        plausible = [name for name in names if values[name] >= bounds["least"][name]]
    elif bounds:
        probability = values[positive]
        is_positive, is_negative = probability >= bounds["least_positive"], probability <= bounds["most_negative"]
        plausible = [name for name in names if (is_positive if name == positive else is_negative)]
    check, distance = spec["input_check"], None
    if check:
        squares = ((np.array(outputs["components"]) - check["mean"]) / check["scale"]) ** 2
        ends = np.cumsum(check["parts"])
        distance = max(float(np.sqrt(part.mean())) for part in np.split(squares, ends[:-1]))
    return {
        "probabilities": values,
        "label": label,
        "prediction_set": plausible,
        "uncertain": None if plausible is None else plausible != [label],
        "distance": distance,
        "out_of_distribution": None if distance is None else distance > check["limit"],
    }


def picture(pixels: Any) -> dict[str, Any]:
    """Pixels as the results have them."""
    height, width, *channels = pixels.shape
    text = base64.b64encode(pixels.tobytes()).decode()
    return {"width": width, "height": height, "channels": channels[0] if channels else 1, "pixels": text}


def classify(spec: Any, names: list[str], engine: TfliteEngine | OnnxEngine, path: Path) -> dict[str, Any]:
    """What each step makes of an image file."""
    try:
        decoded = decode(path)
    except Exception as error:  # Pillow's decoders have no common exception
        return {"error": str(error) or type(error).__name__}
    grey = to_grey(decoded)
    resized = resize(grey, spec["input"]["height"], spec["input"]["width"])
    tensor = to_tensor(spec, resized)
    outputs = {name: values.tolist() for name, values in zip(names, engine.run(tensor), strict=True)}
    return {
        "decoded": picture(decoded),
        "grey": picture(grey),
        "resized": picture(resized),
        "tensor": base64.b64encode(tensor.tobytes()).decode(),
        "outputs": outputs,
        "answer": answer(spec, outputs),
    }


def main(kit: Path, results: Path) -> None:
    """Classify the images of the vectors."""
    spec = json.loads((kit / "spec.json").read_text(encoding="utf-8"))
    vectors = json.loads((kit / "vectors" / "vectors.json").read_text(encoding="utf-8"))
    path = kit / vectors["model"]
    engine = (OnnxEngine if path.suffix == ".onnx" else TfliteEngine)(path, vectors["tensor"]["shape"])
    found = [
        {"file": each["file"], **classify(spec, vectors["outputs"], engine, kit / "vectors" / each["file"])}
        for each in vectors["vectors"]
    ]
    decisions = [answer(spec, case["outputs"]) for case in vectors["decisions"]]
    results.write_text(json.dumps({"port": "Python", "vectors": found, "decisions": decisions}), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python port.py KIT RESULTS.json")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
