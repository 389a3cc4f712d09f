"""Runs the README as a newcomer would: its steps, in their order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge._util import extras
from pneumo_edge.benchmarks import results
from pneumo_edge.evaluation.metrics import auc
from pneumo_edge.formats import USUAL, select
from tests import pages

_README = (pages.REPOSITORY / "README.md").read_text(encoding="utf-8")
_COMMANDS = re.findall(r"^\$ (.+)$", _README, re.MULTILINE)
#: `make` and `pip install` are run by CI and by test_installation; the Raspberry Pi's have a test of their own; what
#: runs until it is ended, by test_service_docs.
_STEPS = [command for command in _COMMANDS if re.match("pneumo-edge (?!serve)", command)]
_RASPBERRY_PI = re.findall(r"^\$ (.+)$", _README.split("### On a Raspberry Pi")[1].split("\n### ")[0], re.MULTILINE)
_PYTHON = re.findall(r"```python\n(.*?)```", _README, re.DOTALL)


def test_every_command_is_of_a_kind_that_is_run() -> None:
    others = [command for command in _COMMANDS if command not in _STEPS and command != "pneumo-edge serve"]
    others = [command for command in others if command not in _RASPBERRY_PI]
    assert {command.split()[0] for command in others} <= {"curl", "make", "pip"}
    assert _STEPS and _PYTHON


def test_every_verb_is_in_the_table(subcommands: set[str]) -> None:
    assert set(re.findall(r"^\| `([a-z ]+)` \|", _README, re.MULTILINE)) >= subcommands


def test_every_extra_is_named() -> None:
    pyproject = (pages.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    section = pyproject.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for extra in re.findall(r"^(\w+) = \[", section, re.MULTILINE):
        assert f"`{extra}`" in _README


def test_the_device_needs_nothing_but_an_x_ray(tmp_path: Path) -> None:
    Image.effect_noise((400, 300), 60).save(tmp_path / "x-ray.jpeg")
    section = _README.split("## On a device")[1].split("\n## ")[0]
    steps = [step for step in _STEPS if f"$ {step}" in section]
    assert steps
    for step in steps:
        assert re.search(r"^(NORMAL|PNEUMONIA) .* x-ray.jpeg$", pages.shell(step, tmp_path), re.MULTILINE)
    judged, refused = (pages.python(block, tmp_path) for block in _PYTHON if block in section)
    assert re.match(r"(NORMAL|PNEUMONIA) \{", judged)
    assert refused.startswith("this is not an image that can be read")


@pytest.mark.slow
def test_the_raspberry_pi_needs_what_it_says(tmp_path: Path, pip: Callable[..., None]) -> None:
    copy = tmp_path / "copy"
    for name in ("pneumo_edge", "converters", "benchmarks"):
        shutil.copytree(pages.REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "constraints.txt"):
        shutil.copy(pages.REPOSITORY / name, copy)
    Image.effect_noise((400, 300), 60).save(copy / "x-ray.jpeg")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said = []
    for command in map(shlex.split, _RASPBERRY_PI):
        if command[0].endswith("/pip"):
            # Through the fixture, which skips the test where there is no package index.
            requirements = [word.replace(".", str(copy), 1) if word.startswith(".") else word for word in command[2:]]
            pip(copy / ".venv/bin/python", command[1], "--constraint", str(copy / "constraints.txt"), *requirements)
            continue
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        said.append(done.stdout)
    assert re.search(r"^(NORMAL|PNEUMONIA) .* x-ray.jpeg$", "".join(said), re.MULTILINE)
    assert "efficientnetb0-int8" in said[-1]


@pytest.mark.slow
def test_the_steps_work_as_written_without_a_network(workplace: Path, offline: Mapping[str, str]) -> None:
    for step in _STEPS:
        pages.shell(step, workplace, offline)
    for name in ("audit.png", "reports/results.json", "reports/report.md", "reports/report.html"):
        assert (workplace / name).stat().st_size > 0
    # From the sample pack and the bundled weights: every file passed its gate, and is of use.
    measured = results.read(workplace / "reports" / "results.json")
    assert {model.file for model in measured.models} == {row.file_name("mobilenetv2") for row in select(list(USUAL))}
    assert all(model.initial_weights.startswith("bundled mobilenetv2-int8 (sha256 ") for model in measured.models)
    names = sorted(measured.test_set.labels)
    labels = np.array([measured.test_set.labels[name] for name in names])
    for unit in measured.units:
        assert auc(labels, np.array([unit.probabilities[name] for name in names])) > 0.95, unit.unit.name
    # The same from Python: what is trained and exported already is taken as it is.
    (block,) = (block for block in _PYTHON if "pneumo_edge.train(" in block)
    assert re.fullmatch(
        r"AUC (0\.9\d+|1\.000) \[.*\] Report: reports.report\.md\n", pages.python(block, workplace, offline)
    )
    again = results.read(workplace / "reports" / "results.json")
    assert {model.file for model in again.models} == {"mobilenetv2-int8.tflite"}
    assert {model.sha256 for model in again.models} <= {model.sha256 for model in measured.models}


@pytest.fixture
def workplace(tmp_path: Path, sample_pack: Path) -> Path:
    """A folder with a small chest_xray of real X-rays."""
    if not extras.is_installed("tensorflow"):
        pytest.skip("the extras 'train' and 'convert' are not installed")
    (tmp_path / "chest_xray").symlink_to(sample_pack)
    shutil.copy(next((sample_pack / "test" / "PNEUMONIA").iterdir()), tmp_path / "x-ray.jpeg")
    return tmp_path


@pytest.fixture
def subcommands() -> set[str]:
    from pneumo_edge.cli import SUMMARIES, load_verb

    return {
        f"{verb} {inner}".strip() for verb in SUMMARIES for inner in getattr(load_verb(verb), "commands", None) or [""]
    }
