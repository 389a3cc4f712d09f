"""The table in docs/formats.md says what the table of formats says."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge.formats import FORMATS, Format

_PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def _line(row: Format) -> str:
    bounds = row.bounds
    cells = (
        f"`{row.id}`",
        row.summary,
        row.input_dtype,
        ", ".join(row.engines),
        f"{bounds.max_difference:g}",
        f"{bounds.mean_difference:g}",
        f"{bounds.min_agreement:.0%}",
        f"{bounds.max_auc_loss:g}",
    )
    return f"| {' | '.join(cells)} |"


def test_every_format_stands_in_the_page_as_it_is() -> None:
    lines = _PAGE.read_text(encoding="utf-8").splitlines()
    in_page = [line for line in lines if line.startswith(("| `tflite-", "| `onnx-"))]
    assert in_page == [_line(row) for row in FORMATS.values()]
