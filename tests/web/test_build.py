"""Building the site: what is refused, and what is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pneumo_edge.errors import ArgumentError, InstallationError
from pneumo_edge.web import build, runtimes
from tests import pages

_PAGE = pages.REPOSITORY / "docs" / "how-to" / "web.md"


def _web(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", "web", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment or None)


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = _web("--out", tmp_path)
    assert done.returncode == 2
    assert "with other files in it" in done.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_the_page_of_the_documentation_works_as_written(modules: Path, tmp_path: Path) -> None:
    blocks = [block for block in pages.blocks(_PAGE) if block.reason == "tests/web/test_build.py"]
    assert len(blocks) == 1
    pages.run(blocks[0], tmp_path)
    assert (tmp_path / "site" / "index.html").is_file()


def test_two_models_of_one_name_are_refused(tiny_models: Path, tmp_path: Path) -> None:
    path = tiny_models / "tiny-fp32.tflite"
    with pytest.raises(ArgumentError, match="two models have the file name tiny-fp32"):
        build.build([path, path], tmp_path / "site")


def test_without_npm_the_remedy_is_said(tmp_path: Path) -> None:
    done = _web("--out", tmp_path / "site", PATH="/nowhere", PNEUMO_EDGE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 3
    assert "npm is not installed" in done.stderr
    assert "--runtime FOLDER" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "site").exists()


def test_npm_that_fails_is_quoted(tmp_path: Path) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'npm error network request failed' >&2\nexit 1\n")
    npm.chmod(0o755)
    cache = tmp_path / "cache"
    done = _web("--out", tmp_path / "site", PATH=f"{npm.parent}:/usr/bin:/bin", PNEUMO_EDGE_CACHE=str(cache))
    assert done.returncode == 3
    assert "npm error network request failed" in done.stderr
    assert done.stderr.count("\n") == 1
    # Nothing that the next run would take for the packages.
    assert not list(cache.rglob("node_modules"))


def test_packages_of_another_version_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@litertjs" / "core" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "0.0.1"}')
    with pytest.raises(InstallationError, match=r"has @litertjs/core 0\.0\.1; expected @litertjs/core 2"):
        runtimes.find(tmp_path)


def test_a_folder_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallationError, match="has no package"):
        runtimes.find(tmp_path)


def test_a_site_has_what_it_needs_and_nothing_else(site: Path) -> None:
    names = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {"index.html", "sw.js", "models/tiny-int8.tflite", "models/tiny-fp32.onnx"} <= names
    assert not {name for name in names if name.endswith((".map", ".ts", ".py", ".json")) and name != "models.json"}
    notice = (site / "runtime" / "NOTICE.txt").read_text()
    for name in ("@litertjs/core 2", "onnxruntime-web 1", "dicom-parser 1"):
        assert name in notice
    text = (site / "index.html").read_text()
    assert "unsafe-inline" not in text
    assert "'unsafe-eval'" not in text
    for path in site.glob("*.js"):
        assert "https://" not in path.read_text()


def test_a_second_build_replaces_the_site_and_changes_its_version(
    site: Path, tiny_models: Path, modules: Path, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    first = build.build([tiny_models / "tiny-fp32.onnx"], out, modules)
    before = (out / "site.js").read_text()
    assert first.models == ("tiny-fp32.onnx",)
    assert not (out / "runtime" / "litert").exists()
    build.build([tiny_models / "tiny-int8.tflite"], out, modules)
    assert not (out / "models" / "tiny-fp32.onnx").exists()
    assert (out / "site.js").read_text() != before
    entries = json.loads((out / "models.json").read_text())["models"]
    assert [entry["runtime"] for entry in entries] == ["litert"]
