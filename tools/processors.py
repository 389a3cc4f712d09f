"""The table in docs/quantization.md of what integer formats answer on other kinds of processors.

``make processors`` runs ``python -m tools.processors MODEL ...`` in the repository's root: each file is asked
about images of its reference set here, under QEMU as a processor with AVX2 and no more, and by the arm64 Python of
``make arm64``, where there is one. Without files, the table is drawn from ``results/formats/processors.json``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge import formats
from pneumo_edge._util import files, records
from pneumo_edge._util.progress import track
from pneumo_edge.converters import reference
from pneumo_edge.errors import ConversionError, PneumoEdgeError
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import MODEL_SUFFIXES
from tools import formats_page, pages

RESULTS = formats_page.RESULTS / "processors.json"
QEMU = "qemu-x86_64-static"
#: A processor with AVX2 and no VNNI; QEMU emulates no AVX-512.
AVX2 = (QEMU, "-cpu", "Haswell")
_ARM64 = Path("out/arm64/python")
_IMAGES = 4


@dataclass(frozen=True)
class Compared:
    """What a file answers on an engine on one kind of processor, against its answers on another, ``here``."""

    model: str
    engine: str
    here: str
    processor: str
    images: int
    flips: int
    max_difference: float


@dataclass(frozen=True)
class Record:
    """All that was compared."""

    compared: tuple[Compared, ...]


def ask(command: Sequence[str], pixels: Path, models: Sequence[Path]) -> dict[str, Any]:
    """The output of :mod:`tools.answers`.

    Args:
        command: A Python for the kind of processor, with its emulator.
        pixels: A ``.npy`` file of uint8, shape (images, height, width, 3).
        models: Model files.

    Raises:
        ConversionError: It failed.
    """
    command = [*command, "-m", "tools.answers", str(pixels), *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise ConversionError(f"{command[0]} failed ({last})", "the answers of model files", "Mend what it says")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def compare(model: Path, commands: Sequence[Sequence[str]]) -> list[Compared]:
    """Ask about images that travel with a model file, here and by each command."""
    spec = read_spec(model)
    told = reference.load(model.with_name(reference.file_name(spec.backbone))).subset(_IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels.npy"
        np.save(pixels, told.pixels)
        here, *elsewhere = (ask(command, pixels, [model]) for command in ([sys.executable], *commands))
    threshold = spec.decision.threshold
    compared = []
    for there in elsewhere:
        for engine, answers in there["probabilities"][str(model)].items():
            ours, theirs = np.array(here["probabilities"][str(model)][engine]), np.array(answers)
            compared.append(
                Compared(
                    model.name,
                    engine,
                    here["processor"],
                    there["processor"],
                    len(ours),
                    int(np.sum((ours >= threshold) != (theirs >= threshold))),
                    float(np.abs(ours - theirs).max()),
                )
            )
    return compared


def table(record: Record) -> str:
    """A Markdown table with a line for each file, engine and kind of processor."""
    lines = [
        "| file | engine | processor | against | labels that flip | largest difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in record.compared:
        flips = f"{row.flips} of {row.images}"
        cells = (row.model, row.engine, row.processor, row.here, flips, f"{row.max_difference:.2g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _is_quantized(model: Path) -> bool:
    row = formats.find(model.suffix, read_spec(model).format)
    return row is not None and row.quantized


def main(paths: Sequence[Path]) -> None:
    """Ask, keep what was answered, and put the table into its page."""
    commands = [[*AVX2, sys.executable]] if shutil.which(QEMU) else []
    commands += [[str(_ARM64)]] if _ARM64.exists() else []
    try:
        if paths:
            found = [path for path in paths if path.suffix in MODEL_SUFFIXES and _is_quantized(path)]
            asked = [compare(path, commands) for path in track(found, "Asking", len(found))]
            files.write_text(RESULTS, records.dumps(Record(tuple(row for rows in asked for row in rows))))
        pages.put_table(formats_page.PAGE, "processors", table(records.loads(Record, RESULTS.read_bytes())))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
