"""Which data the demo takes and which verbs it runs; the whole of it is `make demo`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from pneumo_edge._util import children
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import app, demo
from pneumo_edge.data import fetch, sample
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import DataError, ExitCode
from pneumo_edge.formats import select
from pneumo_edge.runtime.engines import USUAL


class _Commands:
    """Stands in for the commands of the demo: remembers them, and ends each with a code."""

    def __init__(self, codes: dict[str, ExitCode]) -> None:
        self.run: list[list[str]] = []
        self._codes = codes

    def __call__(self, *words: str | Path, allowed: tuple[ExitCode, ...] = (ExitCode.OK,), show: object = None) -> int:
        arguments = [str(word) for word in words]
        self.run.append(arguments)
        if arguments[:2] == ["data", "phantom"]:
            make_phantom(Path(arguments[2]), seed=0, train_per_class=2, test_per_class=2)
        code = self._codes.get(" ".join(arguments[:2]), self._codes.get(arguments[0], ExitCode.OK))
        if code not in allowed:
            raise typer.Exit(code)
        return code

    @property
    def verbs(self) -> list[str]:
        return [arguments[0] for arguments in self.run]

    def of(self, *verbs: str) -> list[list[str]]:
        return [arguments for arguments in self.run if arguments[0] in verbs]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PNEUMO_EDGE_DATA", raising=False)
    monkeypatch.delenv("PNEUMO_EDGE_WEIGHTS", raising=False)

    def fail(folder: Path) -> Path:
        raise DataError("the address could not be fetched (nobody answers)", "a file", "Try again")

    monkeypatch.setattr(fetch, "fetch_medmnist", fail)
    # The commands are stood in for, so there are no results to sum up.
    monkeypatch.setattr(demo, "_summarise", lambda *_: None)


#: The first answer, and then the pipeline.
_VERBS = ["predict", "train", "train", "export", "benchmark"]


def _demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *options: str, **codes: ExitCode) -> tuple[_Commands, int]:
    commands = _Commands({name.replace("_", " "): code for name, code in codes.items()})
    monkeypatch.setattr(demo, "_run", commands)
    return commands, CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out"), *options]).exit_code


def test_given_data_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = make_phantom(tmp_path / "mine", seed=0, train_per_class=2, test_per_class=2)
    commands, code = _demo(monkeypatch, tmp_path, "--data", str(data))
    assert code == 0
    assert commands.verbs == _VERBS
    assert all(str(data) in arguments for arguments in commands.of("train", "benchmark"))


def test_without_data_or_network_it_takes_the_sample_pack_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample_pack: Path
) -> None:
    commands = _Commands({})
    monkeypatch.setattr(demo, "_run", commands)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert commands.verbs == _VERBS
    packs = {Path(each[each.index("--data") + 1]).resolve() for each in commands.of("train", "benchmark")}
    assert packs == {sample_pack.resolve()}
    (line,) = [line for line in done.output.splitlines() if "sample pack" in line]
    assert "could not be fetched (nobody answers)" in line and "real X-rays" in line


def test_what_is_fetched_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = make_phantom(tmp_path / "fetched", seed=0, train_per_class=2, test_per_class=2)
    monkeypatch.setattr(fetch, "fetch_medmnist", lambda folder: kept)
    commands, code = _demo(monkeypatch, tmp_path)
    assert code == 0
    assert all(str(kept) in arguments for arguments in commands.of("train", "benchmark"))


def test_without_the_repository_it_says_so_and_draws_phantoms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "find", lambda: None)
    commands, code = _demo(monkeypatch, tmp_path)
    assert code == 0
    assert commands.run[1] == ["data", "phantom", str(cache_folder() / "phantom")]
    assert [verb for verb in commands.verbs if verb != "data"] == _VERBS


def test_the_first_answer_stands_before_anything_is_fetched_or_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []
    kept = make_phantom(tmp_path / "fetched", seed=0, train_per_class=2, test_per_class=2)

    def run(*words: str | Path, **_: object) -> int:
        order.append(str(words[0]))
        return 0

    def fetched(folder: Path) -> Path:
        order.append("fetch")
        return kept

    monkeypatch.setattr(demo, "_run", run)
    monkeypatch.setattr(fetch, "fetch_medmnist", fetched)
    assert CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")]).exit_code == 0
    assert order[:3] == ["predict", "fetch", "train"]


@pytest.mark.parametrize("has_data", [True, False])
def test_without_the_sample_pack_the_first_image_is_of_the_data_or_a_phantom(
    has_data: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sample, "find", lambda: None)
    data = make_phantom(tmp_path / "mine", seed=0, train_per_class=2, test_per_class=2)
    commands, code = _demo(monkeypatch, tmp_path, *(["--data", str(data)] if has_data else []))
    assert code == 0
    verb, image = commands.run[0]
    assert verb == "predict"
    assert Path(image).is_file()
    assert Path(image).parent == tmp_path / "out" / "images" if has_data else "phantom" in image


def test_the_smallest_file_is_shown_on_images_of_each_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample_pack: Path
) -> None:
    models = tmp_path / "out" / sample_pack.name / "models"
    models.mkdir(parents=True)
    for name, size in (("mobilenetv2-fp32", 9), ("mobilenetv2-int8", 3), ("efficientnetb0-int8", 4)):
        (models / f"{name}.tflite").write_bytes(bytes(size))
    commands, code = _demo(monkeypatch, tmp_path)
    assert code == 0
    _, (_, *images, option, model) = commands.of("predict")
    assert (option, Path(model).name) == ("--model", "mobilenetv2-int8.tflite")
    assert {Path(image).name.split("-")[1] for image in images} == {"NORMAL", "PNEUMONIA"}


def test_a_command_is_shown_with_the_lines_that_matter(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pack = make_phantom(tmp_path / "pack", seed=0, train_per_class=10, test_per_class=2)
    capfd.readouterr()
    assert demo._run("data", "audit", pack, show=lambda line: line.startswith("Formats")) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown == [f"$ pneumo-edge data audit {pack}", "Formats: JPEG (24)"]


def test_an_interruption_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command that was running has said it."""

    class Process:
        returncode: int | None = None

        def terminate(self) -> None:
            self.returncode = ExitCode.INTERRUPTED

        def wait(self) -> int:
            if self.returncode is None:
                raise KeyboardInterrupt
            return self.returncode

    started = SimpleNamespace(process=Process())
    monkeypatch.setattr(children, "start", lambda *words, **_: contextlib.nullcontext(started))
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == ExitCode.INTERRUPTED
    assert done.stderr.splitlines() == ["Run the demo again: it continues with the step that was interrupted."]


def test_a_missed_gate_does_not_end_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands, code = _demo(monkeypatch, tmp_path, export=ExitCode.GATE_MISSED)
    assert code == 0
    assert commands.verbs[-1] == "benchmark"


@pytest.mark.parametrize("verb", ["train", "export", "benchmark"])
def test_any_other_failure_ends_the_demo_with_its_code(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands, code = _demo(monkeypatch, tmp_path, **{verb: ExitCode.FAILED})
    assert code == ExitCode.FAILED
    assert commands.verbs[-1] == verb


def test_what_is_trained_and_exported_is_in_the_tables() -> None:
    assert set(demo._BACKBONES) <= set(BACKBONES)
    assert [row.id for row in select(list(demo._FORMATS))] == list(demo._FORMATS)
    assert {engine for engine in USUAL if engine != "tflite-runtime"} == set(demo._ENGINES)
