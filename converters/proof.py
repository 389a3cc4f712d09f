"""The proof beside each model file: its inputs, its measurements, and the hash of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import files, records
from pneumo_edge.converters import reference
from pneumo_edge.errors import ConversionError
from pneumo_edge.formats import FormatRecord
from pneumo_edge.spec import CalibrationSpec, VerificationSpec

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Origin:
    """The inputs of a file. A file with the same inputs is up to date.

    ``checkpoint``, ``calibration`` and ``reference`` are SHA-256 of the Keras file, of the calibration manifest
    (None where the format has none) and of the reference set; ``versions`` are those of converters and engines;
    ``coverage`` is the coverage of its prediction sets (None in files without them), ``processor`` the kind of
    processor that it was verified on, where its answers depend on it, and ``bins`` the most intervals of its validation
    distribution (None in files without it). ``nearest`` is the share of answers that are uncertain because they are
    near the threshold (None in files from before it).
    """

    backbone: str
    checkpoint: str
    fingerprint: str
    calibration: str | None
    reference: str
    format: FormatRecord
    versions: dict[str, str]
    coverage: float | None = None
    processor: str | None = None
    bins: int | None = None
    nearest: float | None = None


@dataclass(frozen=True)
class Proof:
    """The record of a file that passed its acceptance checks; size and ``sha256`` are of the whole file.

    ``calibration`` is that of its ModelSpec.
    """

    file: str
    size_bytes: int
    sha256: str
    origin: Origin
    threshold: float | None
    verification: VerificationSpec
    calibration: CalibrationSpec | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, not {SCHEMA_VERSION}")

    def save(self, model: Path) -> None:
        """Write the proof beside its model file."""
        files.write_text(path(model), records.document(self))


def path(model: Path) -> Path:
    """The path of the proof of a model file, for example ``mobilenetv2-int8.tflite.proof.json``."""
    return model.with_name(f"{model.name}.proof.json")


def load(model: Path) -> Proof:
    """Read the proof beside a model file.

    Raises:
        ConversionError: There is none, or it is not valid.
    """
    try:
        return records.loads(Proof, path(model).read_bytes())
    except FileNotFoundError as error:
        raise ConversionError(
            f"there is no proof {path(model)}",
            "the file that `pneumo-edge export` or `adopt` puts beside the model file",
            "Copy it from where the model file comes from, where both have the same name, or make the model file again",
        ) from error
    except (OSError, records.RecordError) as error:
        raise ConversionError(
            f"the proof {path(model)} cannot be read ({error})",
            f"a proof of schema {SCHEMA_VERSION}, as `pneumo-edge export` and `adopt` write it",
            "Copy it again, or make the model file again",
        ) from error


def check(model: Path, proof: Proof) -> None:
    """Check that a model file and its reference set are those of the proof.

    Raises:
        ConversionError: A file is missing or its SHA-256 differs.
    """
    beside = model.with_name(reference.file_name(proof.origin.backbone))
    for file, expected in ((model, proof.sha256), (beside, proof.origin.reference)):
        try:
            found = files.sha256(file)
        except FileNotFoundError as error:
            raise ConversionError(
                f"there is no {file}",
                f"that file, beside {path(model).name}",
                "Copy it from where the proof comes from"
                if model.name == proof.file
                else f"{model.name} was {proof.file}: give it, its proof and its reference set the names they had",
            ) from error
        if found != expected:
            raise ConversionError(
                f"{file} has the SHA-256 {found[:16]}",
                f"{expected[:16]}, that of the file which was verified",
                "Copy it again, together with its proof and its reference set, from where they come from",
            )


def still_holds(model: Path, origin: Origin) -> bool:
    """Whether a file and its proof exist, match, and have these inputs."""
    try:
        proof = load(model)
        check(model, proof)
    except (ConversionError, OSError):
        return False
    return proof.origin == origin
