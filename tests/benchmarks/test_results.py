from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge.benchmarks import results
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.errors import ResultsError
from tests.present import present

MakeResults = Callable[..., Results]


@pytest.fixture
def edited(tmp_path: Path, make_results: MakeResults) -> Callable[[Callable[[Any], None]], Path]:
    """Writes results after an edit of their JSON."""

    def write(edit: Callable[[Any], None]) -> Path:
        path = tmp_path / "results.json"
        results.write(path, make_results())
        document = json.loads(path.read_text())
        edit(document)
        path.write_text(json.dumps(document))
        return path

    return write


def test_what_is_written_is_read_again(tmp_path: Path, make_results: MakeResults) -> None:
    path = tmp_path / "results.json"
    results.write(path, make_results())
    assert results.read(path) == make_results()


def test_every_sample_stands_in_the_file(tmp_path: Path, make_results: MakeResults) -> None:
    path = tmp_path / "results.json"
    results.write(path, make_results())
    unit = json.loads(path.read_text())["units"][0]
    assert len(unit["probabilities"]) == 40
    assert [len(process["inference"]["wall_ns"]) for process in unit["latency"]] == 10 * [160]
    assert len(unit["latency"][0]["file_to_verdict"]["stages_ms"]["decode"]) == 20


def test_a_field_of_a_later_minor_version_is_no_obstacle(
    edited: Callable[[Callable[[Any], None]], Path], make_results: MakeResults
) -> None:
    assert results.read(edited(lambda document: document.update(energy="none"))) == make_results()


def test_a_newer_schema_is_refused_by_name_even_if_fields_are_gone(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    def edit(document: Any) -> None:
        document["schema_version"] = 99
        del document["units"]

    with pytest.raises(ResultsError, match="has schema 99; expected results of schema 3"):
        results.read(edited(edit))


def test_results_of_the_first_schema_are_refused_by_name(edited: Callable[[Callable[[Any], None]], Path]) -> None:
    def edit(document: Any) -> None:
        document["schema_version"] = 1
        del document["twins"], document["conditions"]

    with pytest.raises(ResultsError, match=r"has schema 1, .* Measure again with `pneumo-edge benchmark`"):
        results.read(edited(edit))


def test_results_of_the_second_schema_are_read_as_before(
    edited: Callable[[Callable[[Any], None]], Path], make_results: MakeResults
) -> None:
    """They differ in their number alone."""
    found = results.read(edited(lambda document: document.update(schema_version=2)))
    assert found == replace(make_results(), schema_version=2)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.pop("machine"), "machine"),
        (lambda d: d["units"][1]["latency"][0]["inference"]["cpu_ns"].pop(), r"units\[1\].latency\[0\].inference"),
        (lambda d: d["units"][0]["latency"][2]["file_to_verdict"]["stages_ms"]["decode"].pop(), "file_to_verdict"),
        (lambda d: d["units"][0]["latency"].pop(), "timed in 9 processes"),
        (lambda d: d["units"][0]["probabilities"].pop("test/3"), "different images from the test set"),
        (lambda d: d["models"].pop(0), "efficientnetb0-fp32.tflite"),
        (lambda d: d["units"][0]["memory"][1].update(peak_bytes="much"), r"units\[0\].memory\[1\].peak_bytes"),
        (lambda d: d["units"][1]["latency"][3]["inference"].update(cpu_ns=None), "measured different things"),
        (lambda d: d["twins"][0]["unit"].update(threads=2), "A/A unit mobilenetv2-int8.tflite on litert, 2 threads"),
        (lambda d: d["test_set"]["patients"].pop("test/3"), "patients are of different images"),
        (lambda d: d["settings"].update(preset="slow"), "preset is slow, not one of normal, quick, rapid"),
    ],
)
def test_a_damaged_file_is_refused_with_the_field_that_is_wrong(
    edited: Callable[[Callable[[Any], None]], Path], edit: Callable[[Any], None], named: str
) -> None:
    with pytest.raises(ResultsError, match=named):
        results.read(edited(edit))


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, make_results: MakeResults) -> None:
    path = tmp_path / "results.json"
    results.write(path, make_results())
    path.write_text(path.read_text()[:5000])
    with pytest.raises(ResultsError, match=r"results\.json is not valid: not valid JSON"):
        results.read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"none\.json cannot be read"):
        results.read(tmp_path / "none.json")


def test_results_of_odd_names_are_read_by_strict_parsers(tmp_path: Path, make_results: MakeResults) -> None:
    json_reader = pytest.importorskip("pyarrow.json")
    found = make_results(processes=2)
    labels = {f"caf\udce9/{name}": label for name, label in present(found.test_set).labels.items()}
    test_set = replace(present(found.test_set), labels=labels, patients={name: name for name in labels})
    units = tuple(
        replace(unit, probabilities=dict(zip(labels, unit.probabilities.values(), strict=True))) for unit in found.units
    )
    path = tmp_path / "results.json"
    results.write(path, replace(found, test_set=test_set, units=units))
    (row,) = json_reader.read_json(path).to_pylist()
    assert "caf\\udce9/test/0" in row["test_set"]["labels"]
    assert results.read(path).units[0].probabilities.keys() == {name.replace("\udce9", "\\udce9") for name in labels}
