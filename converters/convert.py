"""Second step of an export: converts to each format in the child process. The files have no ModelSpec yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pneumo_edge._util import extras
from pneumo_edge._util.progress import bar
from pneumo_edge.converters import interface
from pneumo_edge.converters.isolated import Child
from pneumo_edge.converters.prepare import Prepared
from pneumo_edge.formats import Format

#: Libraries whose version a proof has, and the module that each is imported as.
_LIBRARIES = {name: name.replace("-", "_") for name in ("ai-edge-quantizer", "keras", "onnx", "tensorflow", "tf2onnx")}


@dataclass(frozen=True)
class Conversion:
    """A file that the child process will make.

    Attributes:
        path: The path of the file.
        wait: Waits for the file and returns its :attr:`pneumo_edge.converters.interface.Converted.share`; raises
            ConversionError if the conversion failed.
    """

    path: Path
    wait: Callable[[], float]


@dataclass(frozen=True)
class Conversions:
    """The file of a format, and a file of the same network calibrated on other images, or None."""

    row: Format
    file: Conversion
    other: Conversion | None


def check_libraries() -> None:
    """Check that everything for a conversion is installed, before any work.

    Raises:
        MissingExtraError: A library is missing.
    """
    for module in _LIBRARIES.values():
        extras.check(module, "convert")


def versions() -> dict[str, str]:
    """Versions of the libraries that take part in a conversion."""
    return {name: version(name) for name in _LIBRARIES}


def start(prepared: Prepared, row: Format, place: Path, child: Child) -> Conversions:
    """Queue the conversion to a format in the child process.

    Args:
        prepared: The inputs of the conversion.
        row: The format.
        place: Folder for the file. The file has its final name, because engines and messages use it.
        child: The child process.
    """
    network, backbone = prepared.opened.network, prepared.opened.run.backbone
    images = prepared.representative

    def begin(pixels: interface.Calibration, name: str) -> Conversion:
        path = place / row.file_name(name)
        return Conversion(path, child.start(interface.make, network, row, pixels, path))

    file = begin(images.pixels if row.calibrated else None, backbone)
    if not row.calibrated or images.other_pixels is None:
        return Conversions(row, file, None)
    return Conversions(row, file, begin(images.other_pixels, f"{backbone}-on-other-images"))


def finish(conversion: Conversion, title: str) -> float:
    """Wait for a file under a progress bar.

    Returns:
        Its :attr:`pneumo_edge.converters.interface.Converted.share`.

    Raises:
        ConversionError: The converter failed.
    """
    with bar(f"Converting to {title}", 1) as advance:
        share = conversion.wait()
        advance(1, "")
    return share
