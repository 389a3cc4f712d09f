"""Networks x formats x engines: one small network goes through what ``make matrix`` does, and the page is computed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pneumo_edge._util import extras
from pneumo_edge.converters import isolated
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ResultsError
from pneumo_edge.formats import FORMATS, Format
from pneumo_edge.training.initial_weights import RANDOM
from tests import tiny_backbone
from tests.converting import forget
from tools.matrix import measure, network_records, page
from tools.matrix.network_records import Cell, FormatRecord, InFloat, NetworkRecord

_ROOT = Path(__file__).parents[2]
_RECORDS = _ROOT / network_records.RESULTS


def _failing(row: Format) -> Format:
    return replace(row, bounds=replace(row.bounds, mean_difference=-1.0))


@pytest.fixture(scope="module")
def tiny(converter: isolated.Child, tmp_path_factory: pytest.TempPathFactory) -> NetworkRecord:
    """The record of a tiny network: one format passes, the others fail in a planted way."""
    for library in ("tensorflow", "onnx", "psutil"):
        if not extras.is_installed(library):
            pytest.skip(f"{library} is not installed")
    folder = tmp_path_factory.mktemp("matrix")
    formats = [
        FORMATS["tflite-fp32"],
        _failing(FORMATS["tflite-int8"]),
        replace(FORMATS["tflite-dynamic"], converter=".tflite:absent"),
        FORMATS["onnx-fp32"],
    ]
    settings = replace(measure.SETTINGS, processes=2, queries=4, seconds=0, most_seconds=1)
    data = make_phantom(folder / "data", seed=1, train_per_class=32, test_per_class=2)
    converter.call(forget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_EDGE_CACHE", str(folder / "cache"))
        return measure.measure(tiny_backbone.ROW, RANDOM, data, folder, converter, formats, settings)


@pytest.mark.slow
def test_every_cell_passes_or_says_why(tiny: NetworkRecord) -> None:
    by_format = {each.format: each for each in tiny.formats}
    for name, made in by_format.items():
        assert [cell.engine for cell in made.cells] == list(FORMATS[name].engines)
    for name in ("tflite-fp32", "onnx-fp32"):
        for cell in by_format[name].cells:
            if cell.version:  # tflite-runtime has no wheel for every Python
                assert not cell.failure and cell.measured["agreement"] == 1
                assert cell.cpu_ms and cell.ratio and cell.ratio.value == 1, "it is its own measure"
    int8 = by_format["tflite-int8"]
    assert int8.cells[0].failure.startswith("litert has a mean difference of probability of ")
    assert "at most -1" in int8.cells[0].failure and int8.cells[0].measured["mean_difference"] < 0.1
    assert int8.cells[0].delegated_to == "XNNPACK" and int8.cells[0].ratio
    assert {"CONV_2D", "FULLY_CONNECTED"} <= {each.operator for each in int8.in_float}
    assert not any(each.passes for each in int8.in_float)
    absent = by_format["tflite-dynamic"]
    assert "AttributeError" in absent.failure and {cell.failure for cell in absent.cells} == {absent.failure}
    assert str(os.sep) not in int8.cells[0].failure, "no path of this machine"


_PASSES = Cell("litert", "1", "", {"agreement": 1.0, "mean_difference": 0.001}, "XNNPACK", {"ADD": 2}, 1.5)


@pytest.mark.parametrize(
    ("cell", "in_float", "expected"),
    [
        (
            _PASSES,
            (),
            ("passes: 100.0% same decision, mean difference 0.001", "2 of 3 operators to XNNPACK; not MUL 1"),
        ),
        (replace(_PASSES, failure="litert has 9 changed ones"), (), ("**fails**: 9 changed ones", "2 of 3")),
        (
            replace(_PASSES, failure="x"),
            (InFloat("MUL", True, 0.01, 1.0), InFloat("ADD", False, 0.2, 0.5)),
            ("**fails**: x. It passes with MUL in float", "2 of 3"),
        ),
        (
            replace(_PASSES, failure="x"),
            (InFloat("ADD", False, 0.2, 0.5),),
            ("**fails**: x. With no single kind of operator in float does it pass; ADD helps most: 50.0%", "2 of 3"),
        ),
        (Cell("litert", "", "it cannot load | it"), (), ("**fails**: it cannot load \\| it", "does not load")),
        (Cell("litert", "", "it (No 'X'.\nNo 'X'.\nNo)"), (), ("**fails**: it (No 'X'.)", "does not load")),
    ],
)
def test_a_cell_in_words(cell: Cell, in_float: tuple[InFloat, ...], expected: tuple[str, str]) -> None:
    made = FormatRecord("tflite-int8", 10, "", {"ADD": 2, "MUL": 1}, (cell,), in_float)
    line = page.line(made, cell)
    assert line[3].startswith(expected[0]) and line[-1].startswith(expected[1])
    assert "\n" not in line[3] and line[3].count("No 'X'") < 2
    assert all(line), "no cell is empty"


def test_the_records_cover_networks_formats_and_engines() -> None:
    found = network_records.load(_RECORDS)
    assert len(found) >= 13
    for record in found.values():
        cells = {(made.format, cell.engine): cell for made in record.formats for cell in made.cells}
        assert list(cells) == [(row.id, engine) for row in FORMATS.values() for engine in row.engines]
        for cell in cells.values():
            assert cell.failure or (cell.measured and cell.ratio), (record.network, cell)


def test_the_page_follows_from_the_records() -> None:
    shown = (_ROOT / page.PAGE).read_text(encoding="utf-8")
    assert page.text(_RECORDS) in shown
    assert not any("|  |" in line for line in shown.splitlines()), "a cell is empty"


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="make matrix"):
        page.text(tmp_path)
