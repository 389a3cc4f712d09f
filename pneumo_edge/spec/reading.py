"""Reads the ModelSpec inside a model file and checks the file's hash, with the standard library alone."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from pneumo_edge import bundled
from pneumo_edge._util import records
from pneumo_edge.errors import ModelFileError
from pneumo_edge.spec.containers import CONTAINERS, SUFFIXES_IN_WORDS, suffix_of
from pneumo_edge.spec.model_spec import SCHEMA_VERSION, ModelSpec

#: Larger model files are refused unread; those of the largest format have 17 million bytes.
MAX_BYTES = 1_000_000_000
#: The most of a record's error that is quoted: it may hold a text of any length from the file.
_MAX_REASON = 300


def parse(text: str | bytes, path: Path) -> ModelSpec:
    """Read a ModelSpec from its JSON text.

    Raises:
        ModelFileError: The text is not a valid ModelSpec, or one of a newer schema.
    """
    try:
        return records.loads(ModelSpec, text)
    except records.RecordError as error:
        raise ModelFileError(
            f"the ModelSpec inside {path} is not valid: {str(error)[:_MAX_REASON]}",
            f"a ModelSpec of schema {SCHEMA_VERSION}",
            "Export the model again, or install the version of pneumo-edge that made it",
        ) from error


def find(path: Path) -> ModelSpec | None:
    """Read the ModelSpec inside a model file as :func:`read`; None where the file is whole and has none.

    Raises:
        ModelFileError: As :func:`read`, but for a file without a ModelSpec.
    """
    content = read_content(path)
    try:
        text = CONTAINERS[suffix_of(path)].find_text(content)
    except Exception:  # as in _text: other tools' files have no archive, or one of another kind
        return None
    return _check(text, content, path) if text else None


def read(path: Path) -> ModelSpec:
    """Read the ModelSpec inside a model file, with the standard library alone.

    If the spec has the hash of the rest of the file, the hash is checked. A file that was damaged, or has the spec of
    another file, would give wrong answers unnoticed, or crash an engine. The hash is not a signature: a person who
    edits a file on purpose can also change its hash. The proof beside the file has the hash of the whole file, which
    `pneumo-edge verify` checks.

    Raises:
        ModelFileError: The file is missing, not a model file, truncated, has no valid ModelSpec, or has another hash.
    """
    content = read_content(path)
    return _check(_text(content, path), content, path)


def _check(text: bytes, content: bytes, path: Path) -> ModelSpec:
    """The ModelSpec of a text, where the rest of the file has its hash."""
    spec = parse(text, path)
    if spec.model_sha256 is not None:
        found = model_sha256(content, suffix_of(path))
        if found != spec.model_sha256:
            raise ModelFileError(
                f"the model inside {path} has the SHA-256 {found[:16]}",
                f"{spec.model_sha256[:16]}, as its ModelSpec says: the file is damaged, or the spec is another file's",
                "Copy it again from its source, or export it again",
            )
    return spec


def model_sha256(content: bytes, suffix: str) -> str:
    """Hexadecimal SHA-256 of a model file but for the part of it that may hold a ModelSpec.

    Which part that is, the module of the kind of file says.

    Args:
        content: The file.
        suffix: Its ending, ``".tflite"`` or ``".onnx"``.

    Raises:
        ValueError: The bytes are no whole ONNX file.
    """
    digest = hashlib.sha256()
    for part in CONTAINERS[suffix].hashed_parts(memoryview(content)):
        digest.update(part)
    return digest.hexdigest()


def read_content(path: Path) -> bytes:
    """Read the bytes of what may be a model file.

    Raises:
        ModelFileError: It has another ending, is missing, cannot be read, or begins as no such file does.
    """
    container = CONTAINERS.get(suffix_of(path))
    if container is None:
        raise ModelFileError(
            f"{path} is not a model file",
            f"a {SUFFIXES_IN_WORDS} file, or the name of a bundled model: {' or '.join(bundled.NAMES)}",
            "Give the path of an exported model, or one of these names",
        )
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is a folder, a device or a pipe")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(
            f"there is no file {path}", "the path of a model file", "Make one with: pneumo-edge export"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(
            f"{path} cannot be read ({reason})", "a readable model file", "Check the path and its permissions"
        ) from error
    if not content or not container.looks_right(content):
        raise ModelFileError(
            f"{path} does not contain a {suffix_of(path)[1:]} model",
            "a complete model",
            "Copy it again, or export it again",
        )
    return content


def _text(content: bytes, path: Path) -> bytes:
    try:
        text = CONTAINERS[suffix_of(path)].find_text(content)
    except Exception as error:  # zipfile promises no common base class for broken input
        raise no_spec(path) from error
    if text is None:
        raise no_spec(path)
    return text


def no_spec(path: Path) -> ModelFileError:
    """The error for a model file without a ModelSpec."""
    return ModelFileError(
        f"{path} has no ModelSpec: it was made by another tool or is truncated",
        "a file made by `pneumo-edge export` or `pneumo-edge adopt`",
        "Copy it again, export the model with pneumo-edge, or adopt a classifier of another tool",
    )
