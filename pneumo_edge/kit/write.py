"""Writes a kit: the model, its ModelSpec as JSON, labels, test vectors, and programs to begin a port with."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from pneumo_edge import __version__
from pneumo_edge._util import files, records
from pneumo_edge.errors import ArgumentError, printable
from pneumo_edge.kit import c_code, readme, vectors
from pneumo_edge.kit.documents import KitVectors, PortResults
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.spec import ModelSpec

#: By which a folder is known as a kit, which a new one may replace.
_MARKER = vectors.VECTORS
_SCHEMAS: dict[str, type[Any]] = {
    "model-spec.schema.json": ModelSpec,
    "vectors/vectors.schema.json": KitVectors,
    "vectors/results.schema.json": PortResults,
}
#: Modules of the site of `pneumo-edge web`, which the port in JavaScript imports.
_SHARED_WITH_WEB = ("preprocess.js", "decision.js")


def write(classifier: Classifier, target: Path, *, c_array: bool = False) -> KitVectors:
    """Write the kit of a model file.

    Args:
        classifier: The model file on an engine, which computes the vectors.
        target: The folder to write; an earlier kit is replaced.
        c_array: Whether the model file is also written as an array in C.

    Returns:
        The test vectors.

    Raises:
        ArgumentError: ``target`` has something other than a kit.
        OSError: The folder cannot be written.
        ModelFileError: The engine cannot run the model.
    """
    check_target(target)
    spec = classifier.spec
    computed = vectors.compute(classifier)
    with files.whole_folder(target) as folder:
        shutil.copyfile(classifier.path, folder / classifier.path.name)
        texts = {
            "README.md": readme.render(classifier, computed.vectors),
            "spec.json": records.document(spec),
            "labels.txt": "".join(f"{printable(name)}\n" for name in spec.class_names),
            str(vectors.VECTORS): records.document(computed.vectors, indent=1),
            "ports/c/model.h": c_code.model_header(classifier, computed.vectors),
            "ports/c/vectors.h": c_code.vectors_header(computed.vectors),
            **{name: _schema(name, kind) for name, kind in _SCHEMAS.items()},
            **_ports(classifier.path.suffix),
        }
        contents = {name: text.encode() for name, text in texts.items()}
        contents |= {str(vectors.VECTORS.parent / name): content for name, content in computed.files.items()}
        if c_array:
            header, source = c_code.array(classifier.path.read_bytes(), classifier.path.name)
            contents |= {"ports/c/model_data.h": header.encode(), "ports/c/model_data.c": source.encode()}
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return computed.vectors


def check_target(target: Path) -> None:
    """Check the folder of a kit to write.

    Raises:
        ArgumentError: It has something other than a kit.
    """
    if target.is_dir():
        if (target / _MARKER).is_file() or not any(target.iterdir()):
            return
        state = "is a folder with other files in it"
    elif target.exists() or target.is_symlink():
        state = "is a file"
    else:
        return
    raise ArgumentError(f"{target} {state}", "a new or empty folder, or an earlier kit", "Give another path")


def _schema(name: str, kind: type[Any]) -> str:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        "$comment": f"Written by pneumo-edge {__version__}.",
        **records.schema(kind, earlier=True),
    }
    return json.dumps(schema, indent=1) + "\n"


def _ports(suffix: str) -> dict[str, str]:
    """The programs of the ports that run this kind of file, by their paths in the kit."""
    root = resources.files("pneumo_edge")
    found = {}
    for language in sorted((root / "kit" / "ports").iterdir(), key=lambda each: each.name):
        for file in language.iterdir():
            # An installed package has a folder of compiled modules.
            if file.is_file() and _suffix_of(file.name) in (suffix, None):
                found[f"ports/{language.name}/{file.name}"] = file.read_text(encoding="utf-8")
    for name in _SHARED_WITH_WEB:
        found[f"ports/javascript/{name}"] = (root / "web" / "site" / name).read_text(encoding="utf-8")
    return found


def _suffix_of(name: str) -> str | None:
    """The kind of model file that a program runs, as its name says; None if it runs both."""
    return {"onnxruntime": ".onnx", "litert": ".tflite", "tflite": ".tflite"}.get(
        Path(name).stem.rpartition("_")[2].lower()
    )
