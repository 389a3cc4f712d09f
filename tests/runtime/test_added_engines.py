"""Engines that another package adds by an entry point; broken ones do not disturb the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge import bundled
from pneumo_edge.errors import ExitCode

pytest.importorskip("ai_edge_litert", reason="the engine of these tests runs on LiteRT")

_ROWS = '''"""The rows of the engines."""

from pneumo_edge.runtime.engines import EngineInfo


def _row(name, module, library="ai_edge_litert", suffixes=(".tflite",)):
    return EngineInfo(name, module, library, suffixes)


SECOND = _row("second", "extra_engines.second")
INVERTED = _row("inverted", "extra_engines.inverted")
SHAPELESS = _row("shapeless", "extra_engines.shapeless")
BARE = _row("bare", "extra_engines.bare")
RAISING = _row("raising", "extra_engines.raising")
MODULELESS = _row("moduleless", "extra_engines.nowhere")
LITERT = _row("litert", "extra_engines.inverted")
RENAMED = _row("another-name", "extra_engines.second")
SUFFIX = _row("suffix", "extra_engines.second", suffixes=(".pte",))
ABSENT = _row("absent", "extra_engines.absent", library="no_such_library")
TEXT = "extra_engines.second"
'''
_MODULES = {
    "second": """from pneumo_edge.runtime.engines import litert


def load(path, threads, given):
    return litert.load(path, threads, given)


load_any = litert.load_any
""",
    "inverted": """import numpy as np
from pneumo_edge.runtime.engines import litert


class Inverted(litert.InterpreterEngine):
    def _read(self, index, quantized):
        found = super()._read(index, quantized)
        return found[::-1] if index == self._output else found


def load(path, threads, given):
    return Inverted("inverted", "1", litert.Interpreter, path, threads, given)
""",
    "shapeless": """import numpy as np
from pneumo_edge.runtime.engines import litert


class Shapeless(litert.InterpreterEngine):
    def run(self, tensor):
        return np.array([0.2, 0.3, 0.5], np.float32)


def load(path, threads, given):
    return Shapeless("shapeless", "1", litert.Interpreter, path, threads, given)
""",
    "bare": "def load(path, threads, given):\n    return object()\n",
    "raising": "def load(path, threads, given):\n    raise RuntimeError('it is\\nnot ready')\n",
    "exiting": "import sys\nsys.exit('no licence')\n",
    "absent": "import no_such_library\n",
}
_POINTS = {
    "second": "extra_engines.rows:SECOND",
    "inverted": "extra_engines.rows:INVERTED",
    "shapeless": "extra_engines.rows:SHAPELESS",
    "bare": "extra_engines.rows:BARE",
    "raising": "extra_engines.rows:RAISING",
    "moduleless": "extra_engines.rows:MODULELESS",
    "litert": "extra_engines.rows:LITERT",
    "renamed": "extra_engines.rows:RENAMED",
    "suffix": "extra_engines.rows:SUFFIX",
    "absent": "extra_engines.rows:ABSENT",
    "text": "extra_engines.rows:TEXT",
    "missing": "no_such_module:ROW",
    "exiting": "extra_engines.exiting:ROW",
}
#: Of each engine that cannot be used, what its line has.
_BROKEN = {
    "shapeless": "gave probability of shape (3,)",
    "bare": "gave an object without version and input_shape",
    "raising": "raising cannot load",
    "moduleless": "No module named 'extra_engines.nowhere'",
    "renamed": "has the name 'another-name', not the entry point's",
    "suffix": "has the suffixes ('.pte',)",
    "absent": "No module named 'no_such_library'",
    "text": "is of type str, not an EngineInfo",
    "missing": "No module named 'no_such_module'",
    "exiting": "no licence",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package that adds engines."""
    folder = tmp_path_factory.mktemp("site")
    package, record = folder / "extra_engines", folder / "extra_engines-1.5.dist-info"
    package.mkdir()
    record.mkdir()
    for name, text in {"__init__": "", "rows": _ROWS, **_MODULES}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-engines\nVersion: 1.5\n", encoding="utf-8")
    points = "".join(f"{name} = {value}\n" for name, value in _POINTS.items())
    (record / "entry_points.txt").write_text(f"[pneumo_edge.engines]\n{points}", encoding="utf-8")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "bright.png"
    Image.new("L", (300, 260), 210).save(path)
    return path


def _run(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(site))


def _environment(site: Path) -> dict[str, str]:
    found = [str(site), os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found))}


def test_an_engine_of_another_package_is_used_by_its_name(site: Path, image: Path) -> None:
    added = _run(site, "predict", image, "--json", "--engine", "second")
    assert added.returncode == 0, added.stderr
    assert added.stderr.startswith("warning: mobilenetv2-int8.tflite was not verified on second")
    own = _run(site, "predict", image, "--json")
    assert "not verified" not in own.stderr, "the engines of pneumo-edge come first, and nothing is said of others"
    one, other = (json.loads(each.stdout) for each in (added, own))
    assert (one["engine"], other["engine"]) == ("second", "litert")
    assert one["images"][0]["probabilities"] == other["images"][0]["probabilities"]


@pytest.mark.parametrize("engine", ["bare", "missing"])
def test_a_broken_engine_ends_in_one_line_that_names_its_package(site: Path, image: Path, engine: str) -> None:
    done = _run(site, "predict", image, "--engine", engine)
    assert done.returncode == ExitCode.FAILED
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert _BROKEN[engine] in line
    assert "extra-engines" in line


def test_each_mistake_of_an_engine_is_an_error_that_names_it(site: Path, image: Path) -> None:
    script = """
import json, sys
from pneumo_edge import Classifier, PneumoEdgeError
found = {}
for engine in sys.argv[2:]:
    try:
        Classifier(engine=engine).predict(sys.argv[1])
    except PneumoEdgeError as error:
        found[engine] = str(error)
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, image, *_BROKEN, "second"],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(site),
    )
    found = json.loads(done.stdout)
    assert found.keys() == _BROKEN.keys()
    for engine, said in found.items():
        assert _BROKEN[engine] in said
        assert "\n" not in said
        assert "extra-engines" in said or engine == "raising"


@pytest.mark.slow
def test_info_has_a_line_for_each_engine_and_the_others_work(site: Path) -> None:
    done = _run(site, "info", "mobilenetv2")
    assert done.returncode == 0, done.stderr
    fields = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    told = {key.removeprefix("on "): value.strip() for key, value in fields.items() if key.startswith("on ")}
    assert "operators delegated to XNNPACK" in told["litert"]
    assert "operators delegated to XNNPACK" in told["second"]
    for engine in ("renamed", "suffix", "text", "missing", "exiting"):
        assert told[engine].startswith("cannot be used: ")
        assert _BROKEN[engine] in told[engine]
    assert told["litert of extra-engines"].startswith("cannot be used: another engine has this name")
    assert "absent" not in told, "its library is not installed"


def test_other_names_are_refused_with_those_that_run_the_file(site: Path, image: Path) -> None:
    done = _run(site, "predict", image, "--engine", "no-such")
    assert done.returncode == ExitCode.FAILED
    assert "expected litert or tflite-runtime or openvino or second or inverted" in done.stderr
    assert "renamed" not in done.stderr


@pytest.mark.slow
def test_the_acceptance_checks_run_on_an_added_engine(site: Path) -> None:
    done = _run(site, "verify", "mobilenetv2", "--engine", "second")
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith(f"{bundled.path('mobilenetv2')}: verified on ")
    assert [line.split(":")[0].strip() for line in lines] == ["second", "second, 2 threads"]
    wrong = _run(site, "verify", "mobilenetv2", "--engine", "inverted")
    assert wrong.returncode == ExitCode.GATE_MISSED
    (line,) = wrong.stderr.splitlines()
    assert "mobilenetv2-int8.tflite on inverted has " in line
