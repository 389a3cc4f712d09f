"""``predict`` on files with odd names: strict parsers read what is written, and no name is a formula."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from pneumo_edge._util import tabular
from pneumo_edge._util.records import encodable
from pneumo_edge.cli import app, predictions

_NAMES = [
    b"caf\xe9.png", b"\xff\xfe.png", b"=1+1.png", b"+1.png", b"-1.png", b"@sum.png", b"\tt.png", b"\rr.png", b"'q.png",
    b"a;=1+1.png", b"new\nline.png", b"\x1b[31m.png", b'quo"te,.png', "\u2028Röntgen.png".encode(), b"back\\slash.png",
]  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images with all of the names, in the working folder, so that a path begins as a name does."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.effect_noise((230, 230), 60).save(folder / "first.png")
    for name in _NAMES:
        try:
            os.link(folder / "first.png", folder / os.fsdecode(name))
        except OSError:
            pytest.skip("this file system takes no such names")
    (folder / "first.png").unlink()
    (folder / os.fsdecode(b"\xe9 no image.png")).write_bytes(b"nonsense")
    monkeypatch.chdir(folder)
    return folder


def _written(folder: Path) -> list[str]:
    return sorted(encodable(path.name) for path in folder.iterdir())


def _predict(*words: object) -> Result:
    result = CliRunner().invoke(app, ["predict", ".", *map(str, words)])
    assert result.exit_code == 4, result.output
    return result


def _columns(text: bytes, kind: str) -> list[Any]:
    """Names and labels as pyarrow reads them, which takes nothing but UTF-8."""
    pytest.importorskip("pyarrow")
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    if kind == "csv":
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        table = pyarrow.csv.read_csv(io.BytesIO(text), parse_options=options)
        return [tabular.recover(name) for name in table["image"].to_pylist()]
    if kind == "parquet":
        return list(pyarrow.parquet.read_table(io.BytesIO(text))["image"].to_pylist())
    if kind == "json":
        text = b"\n".join(json.dumps(image).encode() for image in json.loads(text)["images"])
    return list(pyarrow.json.read_json(io.BytesIO(text))["source"].to_pylist())


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_standard_output_is_read_by_a_strict_parser(kind: str, folder: Path) -> None:
    output = _predict(f"--{kind}").stdout_bytes
    output.decode("utf-8")
    assert sorted(_columns(output, kind)) == _written(folder)
    if kind == "jsonl" and importlib.util.find_spec("pandas"):
        frame = importlib.import_module("pandas").read_json(io.BytesIO(output), lines=True)
        assert sorted(frame["source"]) == _written(folder)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_a_file_is_read_by_a_strict_parser_after_an_interruption_too(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"x.{kind}"
    _predict("--out", out)
    whole = _columns(out.read_bytes(), kind)
    assert sorted(whole) == _written(folder)

    # A journal of the first half, as a killed run leaves it; what it holds is not judged again.
    journal = tmp_path / f"x.{kind}.partial"
    head = _head(out, folder, monkeypatch)
    journal.write_bytes(b"".join(head))
    _predict("--out", out, "--resume")
    assert _columns(out.read_bytes(), kind) == whole
    assert not journal.exists()
    kept = [json.loads(line) for line in head[1:]]
    if kind == "jsonl":
        assert [json.loads(line) for line in out.read_bytes().splitlines()][: len(kept)] == kept


def _head(out: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The first lines of the journal of a run that could not write its file."""
    other = out.with_name(f"other{out.suffix}")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(other))

    with monkeypatch.context() as patch:
        patch.setattr(predictions, "write", fail)
        assert CliRunner().invoke(app, ["predict", ".", "--out", str(other)]).exit_code == 3
    lines = other.with_name(f"{other.name}.partial").read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + len(_written(folder))
    return lines[:8]


def test_no_name_becomes_a_formula(folder: Path) -> None:
    lines = _predict("--csv").stdout
    rows = list(csv.reader(io.StringIO(lines)))
    for row in rows:
        assert not row[0].startswith(_FORMULA), row
    assert sorted(tabular.recover(row[0]) for row in rows[1:]) == _written(folder)
    # Where a semicolon separates cells, as in much of Europe, a name does not begin a cell either.
    assert '"a;=1+1.png"' in lines


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_recovered_from_its_cell(text: str) -> None:
    cell = tabular.cell(text)
    assert isinstance(cell, str) and not cell.startswith(_FORMULA)
    assert tabular.recover(cell) == text
    (row,) = csv.reader(io.StringIO(tabular.row([text, "b"], end="\r\n"), newline=""))
    assert row == [cell, "b"]


def test_numbers_are_left_alone() -> None:
    assert tabular.row([-1.5, None, "x"]) == "-1.5,,x\n"
