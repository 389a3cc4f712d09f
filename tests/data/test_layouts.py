"""The data layouts that users have are read with their classes, splits and patients, and say what is missing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.cli import app
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.sources import Source, open_source
from pneumo_edge.data.splits import make_manifest
from tests.data import layouts
from tests.data.layouts import LAYOUTS, OF_SEVERAL_CLASSES, Layout, Phantom

_ALL = [*LAYOUTS, *OF_SEVERAL_CLASSES]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Phantom]:
    return layouts.draw(tmp_path_factory.mktemp("phantoms"))


def _build(layout: Layout, phantoms: list[Phantom], folder: Path) -> tuple[Path, list[str]]:
    return layout.build(folder, phantoms), layout.words(folder)


def _open(path: Path, words: list[str]) -> Source:
    reading = {words[i].removeprefix("--").replace("-", "_"): words[i + 1] for i in range(0, len(words), 2)}
    return open_source(DataSource(str(path), **reading))


@pytest.mark.parametrize("layout", _ALL, ids=lambda layout: layout.name)
def test_a_layout_is_read(layout: Layout, phantoms: list[Phantom], tmp_path: Path) -> None:
    source = _open(*_build(layout, phantoms, tmp_path))
    assert source.task.class_names == layout.class_names
    assert source.task.positive_class == (layout.called["VIRUS"] if len(layout.class_names) == 2 else None)
    assert {sample.split for sample in source.samples} <= set(layout.splits)
    assert not source.real
    # Each image has the label of what it shows, and none is lost.
    truth = layouts.truth(phantoms)
    assert len(source.samples) == len(phantoms)
    if source.has_files and layout.name != "DICOM":
        for sample in source.samples:
            shows = truth[hashlib.sha256(source.read(sample)).hexdigest()]
            assert layout.class_names[sample.label] == layout.called[shows], sample.name
    manifest = make_manifest(source, _digests(source), {})
    assert all(min(counts.values()) >= 1 for counts in manifest.counts.values())
    # No patient is on both sides, where patients are known.
    if source.has_patients:
        split_of: dict[str, set[str]] = {}
        for entry in manifest.entries:
            split_of.setdefault(f"{entry.patient} {entry.kind}", set()).add(entry.split)
        assert all(len(splits) == 1 for splits in split_of.values())


def _digests(source: Source) -> dict[str, str]:
    return {sample.name: hashlib.sha256(source.read(sample)).hexdigest() for sample in source.samples}


@pytest.mark.parametrize("layout", OF_SEVERAL_CLASSES, ids=lambda layout: layout.name)
def test_the_audit_reads_it_by_the_same_options(layout: Layout, phantoms: list[Phantom], tmp_path: Path) -> None:
    path, words = _build(layout, phantoms, tmp_path)
    figure = tmp_path / "audit.png"
    command = ["data", "audit", str(path), *words, "--figure", str(figure)]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
    assert figure.stat().st_size > 10_000
    assert done.exit_code == 0, done.output
    assert "PHANTOM" in done.stdout
    assert all(name in done.stdout for name in layout.class_names)
    assert "Nothing: " not in done.stdout


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each.without], ids=lambda layout: layout.name)
def test_it_says_what_is_missing(layout: Layout, phantoms: list[Phantom], tmp_path: Path) -> None:
    path, words = _build(layout, phantoms, tmp_path)
    done = CliRunner().invoke(app, ["data", "audit", str(path), *words[:-2]])
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert re.search(layout.without, line), line
