"""Makes the corpus that the fuzzer starts from: ``python tests/fuzz/make_corpus.py FOLDER_OF_TINY_MODELS``.

From phantom images and from the models of ``tests/tiny_model.py`` alone: no X-ray, and no trained weights.
"""

from __future__ import annotations

import io
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pneumo_edge._util import records
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import (
    ConformalSpec,
    HistogramSpec,
    InputCheckSpec,
    ModelSpec,
    OutputSpec,
    ValidationDistributionSpec,
)

CORPUS = Path(__file__).with_name("corpus")
_SIDE = 40


def _images(x_ray: Image.Image) -> dict[str, bytes]:
    def encode(kind: str, image: Image.Image = x_ray, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    turned = x_ray.rotate(90)
    return {
        "grey.jpeg": encode("JPEG", quality=60, exif=exif),
        "progressive.jpeg": encode("JPEG", x_ray.convert("RGB"), quality=40, progressive=True),
        "large.jpeg": encode("JPEG", x_ray.resize((600, 600)), quality=1),
        "palette.png": encode("PNG", x_ray.convert("P"), transparency=3),
        "film.png": encode("PNG", save_all=True, append_images=[turned]),
        "bits.png": encode("PNG", x_ray.convert("1")),
        "grey.bmp": encode("BMP"),
        "colour.bmp": encode("BMP", x_ray.convert("RGB").resize((28, 28))),
        "lzw.tiff": encode("TIFF", compression="tiff_lzw"),
        "jpeg.tiff": encode("TIFF", compression="jpeg"),
        "group4.tiff": encode("TIFF", x_ray.convert("1"), compression="group4"),
        "raw.tiff": encode("TIFF", x_ray.resize((28, 28))),
        "lossy.webp": encode("WEBP", quality=20),
        "lossless.webp": encode("WEBP", x_ray.convert("RGBA").resize((28, 28)), lossless=True),
        "still.gif": encode("GIF"),
        "film.gif": encode("GIF", save_all=True, append_images=[turned]),
    }


def _dicoms(x_ray: Image.Image) -> dict[str, bytes]:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

    pixels = np.asarray(x_ray)

    def encode(syntax: Any, stored: Any, **elements: Any) -> bytes:
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid(entropy_srcs=["fuzz"])
        dataset.Rows, dataset.Columns = stored.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.PixelRepresentation = 8 * stored.itemsize, 0
        dataset.BitsStored = 8 if stored.itemsize == 1 else 12
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelData = stored.tobytes()
        for name, value in elements.items():
            setattr(dataset, name, value)
        if syntax == RLELossless:
            dataset.compress(syntax)
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
        return stream.getvalue()[132:]

    deep = pixels.astype(np.uint16) * 16
    return {
        "explicit": encode(ExplicitVRLittleEndian, pixels),
        "implicit": encode(ImplicitVRLittleEndian, pixels, PhotometricInterpretation="MONOCHROME1"),
        "window": encode(ExplicitVRLittleEndian, deep, WindowCenter=2000, WindowWidth=3000, RescaleSlope=1),
        "rle": encode(RLELossless, pixels),
    }


def _models(tiny: Path) -> dict[str, dict[str, bytes]]:
    whole = (tiny / "tiny-int8.tflite").read_bytes()
    spec = read_spec(tiny / "tiny-int8.tflite")
    text = records.dumps(spec).encode()
    packed = io.BytesIO(bytes(64))
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("pneumo_edge_spec.json"), text.replace(b"model_sha256", b"none"))
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    return {
        "spec": {"whole": text, "checked": records.dumps(_checked(spec)).encode(), "nested": b'{"name":' * 50},
        "tflite": {"int8": whole[8:], "archive": packed.getvalue()},
        "onnx": {"fp32": (tiny / "tiny-fp32.onnx").read_bytes()},
    }


def _checked(spec: ModelSpec) -> ModelSpec:
    """The spec of a file that says when it had better not answer."""
    return replace(
        spec,
        conformal=ConformalSpec(0.95, 0.4, 0.6, {"NORMAL": 3, "PNEUMONIA": 3}, "nothing"),
        input_check=InputCheckSpec((0.0, 1.0, 2.0), (1.0, 1.0, 0.5), (2, 1), 1.5, 0.99, "nothing"),
        validation_distribution=ValidationDistributionSpec(
            {"PNEUMONIA": HistogramSpec((0.25, 0.5), (2, 1, 3))}, HistogramSpec((1.0,), (5, 1)), 4.0, "nothing"
        ),
        outputs=(
            OutputSpec("heatmap", (7, 7), "of a test"),
            OutputSpec("components", (3,), "of a test", faithful=False),
        ),
    )


def main(tiny: Path) -> None:
    """Write all seeds; what else lies in the corpus, such as what the fuzzer found, stays."""
    phantoms = CORPUS.parent / "phantoms"
    make_phantom(phantoms, seed=1, train_per_class=1, test_per_class=1)
    with Image.open(sorted(phantoms.rglob("*.jpeg"))[0]) as image:
        x_ray = image.convert("L").resize((_SIDE, _SIDE))
    for path in sorted(phantoms.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    phantoms.rmdir()
    for target, files in {"image": _images(x_ray), "dicom": _dicoms(x_ray), **_models(tiny)}.items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (CORPUS / target / name).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
