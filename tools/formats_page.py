"""The table in docs/quantization.md of what the gate measured, from the proofs in ``results/formats``.

``make formats-table`` runs this module in the repository's root. A proof is kept there by copying it from beside its
model file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pneumo_edge import bundled
from pneumo_edge.converters import proof
from pneumo_edge.converters.proof import Proof
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.formats import FORMATS, Format
from tools import pages

RESULTS = Path("results/formats")
PAGE = Path("docs/quantization.md")

_COLUMNS = (
    "format",
    "backbone",
    "MB",
    "engine",
    "same decision",
    "largest difference",
    "mean difference",
    "AUC loss",
    "values in range",
    "on other calibration images",
)


def table(folder: Path, backbones: Sequence[str] = bundled.NAMES) -> str:
    """A Markdown table: every format of every backbone on every engine.

    Raises:
        ConversionError: A proof is missing or not valid.
    """
    rows: list[tuple[str, ...]] = [_COLUMNS, tuple("---" for _ in _COLUMNS)]
    for row in FORMATS.values():
        for backbone in backbones:
            rows += _rows(row, backbone, proof.load(folder / row.file_name(backbone)))
    return pages.rows(rows)


def _rows(row: Format, backbone: str, found: Proof) -> list[tuple[str, ...]]:
    size = f"{found.size_bytes / 1e6:.2f}"
    in_range = f"{found.calibration.share:.10g}" if found.calibration else ""
    stability = found.calibration and found.calibration.stability
    stable = f"{stability['agreement']:.0%}, {stability['mean_difference']:.4f}" if stability else ""
    cells: list[tuple[str, ...]] = []
    for engine, measured in found.verification.measured.items():
        name = engine.split(",")[0]
        version = found.verification.engines[name]
        loss = f"{measured['auc_loss']:.4f}, at most {measured['max_auc_loss']:.4f}" if "auc_loss" in measured else ""
        cells.append(
            (
                f"{row.id}",
                backbone,
                size,
                engine.replace(name, f"{name} {version}", 1),
                f"{measured['agreement']:.1%} of {measured['images']:.0f}",
                f"{measured['max_difference']:.2g}",
                f"{measured['mean_difference']:.2g}",
                loss,
                in_range,
                stable,
            )
        )
        size = in_range = stable = ""
    return cells


def main() -> None:
    """Put the table into its page."""
    try:
        pages.put_table(PAGE, "formats-table", table(RESULTS))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
