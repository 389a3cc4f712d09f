"""How commands end that are interrupted, cut off, out of space, or begun where they must not be."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pneumo_edge import Classifier, bundled
from pneumo_edge._util import cores
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.batch import predict_each

Run = Callable[..., Any]


def _start(command: list[str], *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of more images than are judged in a moment."""
    folder = tmp_path / "many"
    folder.mkdir()
    Image.effect_noise((1500, 1500), 60).save(folder / "0.png")
    for number in range(1, 400):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_interrupted_run_keeps_what_it_has_says_how_to_continue_and_is_continued(
    command: list[str], run: Run, many: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "out.csv"
    partial = tmp_path / "out.csv.partial"
    with _start(command, "predict", many, "--out", out, "--workers", "1") as process:
        while not partial.exists() or partial.read_bytes().count(b"\n") < 4:
            assert process.poll() is None
            time.sleep(0.01)
        # Another of the kind is told whose place it is.
        second = run("predict", many, "--out", out, "--resume")
        assert second.code == ExitCode.FAILED
        assert second.errors == [
            f"error: another prediction is writing {out} (process {process.pid}); expected a file or folder "
            "that no other process writes. Wait until it has ended, or give another --out."
        ]
        process.send_signal(number)
        _, error = process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    assert error == ("error: interrupted; finished work is saved. Run the same command with --resume to continue\n")
    assert not out.exists()
    assert not out.with_name("out.csv.lock").exists()
    kept = partial.read_bytes().rpartition(b"\n")[0].splitlines()
    for path in sorted(many.iterdir())[40:]:
        path.unlink()
    shown = run("predict", many, "--out", out, "--resume")
    assert shown.code == 0, shown.err
    assert len(out.read_text().splitlines()) == 41
    assert len(kept) > 3
    assert not partial.exists()


def test_nohup_keeps_a_command_from_ending_with_its_terminal(command: list[str], many: Path, tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with _start(command, "predict", many, "--csv", "--workers", "1", preexec_fn=ignore) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        for _ in range(3):
            assert process.stdout.readline()
        process.terminate()
        process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED


_WORDS = [
    [], ["--help"], ["--version"], ["info"], ["info", "--json"], ["info", "--help"], ["data", "--help"],
    ["predict", "IMAGES"], ["predict", "IMAGES", "--csv"], ["predict", "IMAGES", "--json"],
]  # fmt: skip


@pytest.mark.parametrize("words", _WORDS, ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_as_it_ends_others(
    command: list[str], x_rays: Path, words: list[str]
) -> None:
    arguments = [str(x_rays) if word == "IMAGES" else word for word in words]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == -signal.SIGPIPE
    assert done.stderr in ("", _foreign(done.stderr))


def _foreign(error: str) -> str:
    """The one line that may stand there: plain pictures are no X-rays."""
    return error if error.startswith("warning: ") and error.count("\n") == 1 else ""


# Paths that cannot be meant


@pytest.mark.parametrize(
    "words",
    [
        ["predict", ""], ["predict", "x.png", "--model", ""], ["predict", "x.png", "--out="], ["info", ""],
        ["benchmark", ""], ["benchmark", "mobilenetv2", "--data", ""], ["evaluate", "", "--data", "."],
        ["data", "audit", ""], ["report", ""], ["export", ""], ["verify", ""], ["train", "--out", ""], ["card", ""],
        ["compare", "", ""], ["choose", ""], ["supplement", "", "", "--data", ""], ["serve", "--model", ""],
        ["demo", "--out", ""], ["data", "phantom", ""],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_empty_path_is_wrong_usage(run: Run, tmp_path: Path, words: list[str]) -> None:
    place = tmp_path / "place"
    place.mkdir()
    Image.new("L", (300, 300)).save(place / "x.png")
    done = run(*words, cwd=place)
    assert done.code == ExitCode.USAGE
    assert "is empty" in done.err
    assert [path.name for path in place.iterdir()] == ["x.png"]


@pytest.mark.parametrize("words", [["--patient-pattern", ""], ["--patient-pattern="]], ids=" ".join)
def test_an_empty_patient_pattern_is_none(run: Run, tmp_path: Path, words: list[str]) -> None:
    done = run("data", "audit", tmp_path, *words)
    assert done.code == ExitCode.FAILED
    assert "has no data set" in done.err


@pytest.fixture(params=["same", "spelled otherwise", "link", "hard link", "link to the folder"])
def another_name(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """Gives another name of a file, ending in .csv."""

    def name(path: Path) -> Path:
        beside = path.with_name("other.csv")
        if request.param == "same":
            return path
        if request.param == "spelled otherwise":
            return path.parent / ".." / path.parent.name / path.name
        if request.param == "link":
            beside.symlink_to(path)
        elif request.param == "hard link":
            beside.hardlink_to(path)
        else:
            (tmp_path / "link").symlink_to(path.parent)
            return tmp_path / "link" / path.name
        return beside

    return name


def test_an_input_is_not_written_over(run: Run, tmp_path: Path, another_name: Callable[[Path], Path]) -> None:
    place = tmp_path / "place"
    place.mkdir()
    image = place / "image.csv"
    Image.new("L", (300, 300)).save(image, "PNG")
    content = image.read_bytes()
    done = run("predict", image, "--out", another_name(image))
    assert done.code == ExitCode.USAGE
    assert "is one of the inputs" in " ".join(done.err.replace("│", " ").split())
    assert image.read_bytes() == content
    assert not list(tmp_path.rglob("*.partial"))
    for verb, option in (("report", "--out"), ("data audit", "--json")):
        done = run(*verb.split(), image if verb == "report" else place, option, another_name_of(image))
        assert done.code == ExitCode.USAGE
        assert image.read_bytes() == content


def another_name_of(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


def test_the_model_is_not_written_over_either(run: Run, tmp_path: Path, x_rays: Path) -> None:
    model = tmp_path / "model.tflite"
    shutil.copy(bundled.path(bundled.DEFAULT), model)
    (tmp_path / "out.json").hardlink_to(model)
    done = run("predict", x_rays, "--model", model, "--out", tmp_path / "out.json")
    assert done.code == ExitCode.USAGE
    assert model.read_bytes() == bundled.path(bundled.DEFAULT).read_bytes()


@pytest.mark.parametrize(
    ("words", "is_folder"),
    [
        (["predict", "IMAGES", "--out", "x.csv"], True),
        (["report", "none.json", "--out", "x.csv"], True),
        (["data", "audit", "IMAGES", "--json", "x.csv"], True),
        (["card", "mobilenetv2", "--metrics", "m", "--out", "x.csv"], False),
        (["benchmark", "mobilenetv2", "--data", "IMAGES", "--out", "x.csv"], False),
        (["evaluate", "mobilenetv2", "--data", "IMAGES", "--out", "x.csv"], False),
        (["export", "IMAGES", "--out", "x.csv"], False),
        (["train", "--data", "IMAGES", "--backbone", "mobilenetv2", "--out", "x.csv"], False),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_what_is_there_of_another_kind_is_refused(
    run: Run, tmp_path: Path, x_rays: Path, words: list[str], is_folder: bool
) -> None:
    out = tmp_path / "x.csv"
    out.mkdir() if is_folder else out.write_text("mine")
    done = run(*(x_rays if word == "IMAGES" else word for word in words), cwd=tmp_path)
    assert done.code == ExitCode.USAGE
    assert out.is_dir() if is_folder else out.read_text() == "mine"


# Numbers that cannot be


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "x.png", "--threads"], ["predict", "x.png", "--workers"], ["serve", "--threads"],
        ["serve", "--workers"], ["evaluate", "mobilenetv2", "--data", ".", "--threads"],
        ["benchmark", "mobilenetv2", "--data", ".", "--threads"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("number", [0, 100_000])
def test_threads_and_workers_beyond_any_machine_are_refused(run: Run, words: list[str], number: int) -> None:
    done = run(*words, number)
    assert done.code == ExitCode.USAGE
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", [0, -1, cores.MOST + 1, 100_000])
def test_the_python_interface_refuses_them_too(number: int) -> None:
    with pytest.raises(ValueError, match=f"threads is {number}, not from 1 to {cores.MOST}"):
        Classifier(threads=number)
    with pytest.raises(ValueError, match=f"workers is {number}, not from 1 to {cores.MOST}"):
        predict_each(Classifier(), [], workers=number)


# Disks, homes and names


def _small_files() -> None:
    # A limit on the size of files stops a write midway, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def test_a_full_disk_is_one_line_that_names_the_file(run: Run, x_rays: Path, tmp_path: Path) -> None:
    for words, named in (
        (["predict", *[x_rays] * 20, "--out", tmp_path / "x.csv"], tmp_path / "x.csv.partial"),
        (["predict", x_rays / "dark.png", "--explain", tmp_path / "x.png"], tmp_path / "x.png"),
        (["data", "audit", tmp_path / "data", "--figure", tmp_path / "a.png"], tmp_path / "a.png"),
    ):
        if words[1] == "audit":
            _class_folders(tmp_path / "data")
        done = run(*words, preexec_fn=_small_files)
        assert done.code == ExitCode.FAILED
        last = done.errors[-1]
        assert last.startswith(f"error: cannot use {named}: "), done.err
        assert "Traceback" not in done.err
        assert not Path(str(named)).exists() or str(named).endswith(".partial")


def _class_folders(root: Path) -> None:
    for split in ("train", "test"):
        for shade, name in ((40, "NORMAL"), (200, "PNEUMONIA")):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                Image.effect_noise((64, 64), shade).save(root / split / name / f"{number}.png")


def test_a_full_disk_under_a_benchmark_names_the_temporary_folder(run: Run, tmp_path: Path) -> None:
    _class_folders(tmp_path / "data")
    place = tmp_path / "temporary"
    place.mkdir()
    environment = {**os.environ, "TMPDIR": str(place)}
    words = ("benchmark", "mobilenetv2", "--engine", "litert", "--data", tmp_path / "data", "--out", tmp_path / "out")
    done = run(*words, preexec_fn=_small_files, env=environment)
    assert done.code == ExitCode.FAILED
    assert done.errors[-1].startswith(f"error: cannot use {place}: ")
    assert list(place.iterdir()) == []


@pytest.fixture
def homeless(command: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``pneumo-edge`` as a user without HOME and without an entry in passwd has it."""
    program = (
        "import os, pwd\n"
        "def nobody(*_): raise KeyError('no such user')\n"
        "pwd.getpwuid = pwd.getpwnam = nobody\n"
        "from pneumo_edge.cli import app\n"
        "app(prog_name='pneumo-edge')\n"
    )
    command[1:] = ["-c", program]
    for name in ("HOME", "XDG_CACHE_HOME", "PNEUMO_EDGE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_is_told_of_the_variable_where_there_must_be_a_cache(
    run: Run, x_rays: Path, tmp_path: Path
) -> None:
    fetched = run("data", "fetch")
    assert fetched.code == ExitCode.FAILED
    (line,) = fetched.errors
    assert "PNEUMO_EDGE_CACHE" in line
    assert run("predict", x_rays / "dark.png").code == 0
    # What is wrong with this file is its missing proof, and not the user's home.
    shutil.copy(bundled.path(bundled.DEFAULT), tmp_path / "model.tflite")
    (line,) = run("verify", tmp_path / "model.tflite").errors
    assert "there is no proof" in line


def test_a_cache_that_cannot_be_written_is_told_with_the_variable(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("data", "fetch", env={**os.environ, "PNEUMO_EDGE_CACHE": str(tmp_path / "file" / "cache")})
    assert done.code == ExitCode.FAILED
    assert "PNEUMO_EDGE_CACHE" in done.errors[-1]


@pytest.mark.parametrize(
    ("name", "locale"),
    [
        (b"caf\xe9.tflite", {"LC_ALL": "C"}),
        ("café.tflite".encode(), {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        (b"caf\xe9.onnx", {}),
    ],
    ids=["Latin-1", "UTF-8 in ASCII", "Latin-1 for ONNX"],
)
def test_a_model_of_any_name_is_run_in_any_locale(
    run: Run, tiny_models: Path, x_rays: Path, tmp_path: Path, locale: dict[str, str], name: bytes
) -> None:
    folder = os.fsencode(tmp_path) + b"/m\xf6dels"
    Path(os.fsdecode(folder)).mkdir()
    model = Path(os.fsdecode(folder + b"/" + name))
    shutil.copy(tiny_models / f"tiny-fp32{model.suffix}", model)
    environment = {**os.environ, **locale}
    for words in (["info", model], ["predict", x_rays, "--model", model]):
        done = run(*words, env=environment)
        assert (done.code, done.err) == (0, ""), words
    for suffix in ("json", "parquet"):
        out = model.with_name(f"out.{suffix}")
        done = run("predict", x_rays, "--model", model, "--out", out, env=environment)
        assert done.code == 0, done.err
        assert out.exists()


@pytest.mark.parametrize("verb", ["benchmark", "evaluate"])
def test_a_loop_of_links_among_models_is_named(run: Run, tmp_path: Path, verb: str) -> None:
    _class_folders(tmp_path / "data")
    models = tmp_path / "models"
    models.mkdir()
    (models / "loop.tflite").symlink_to("loop.tflite")
    done = run(verb, models, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.code == ExitCode.FAILED
    assert "Traceback" not in done.err
    (line,) = [line for line in done.errors if line.startswith("error: loop.tflite: ")]
    assert "cannot be read (Too many levels of symbolic links)" in line


def test_libraries_start_no_more_threads_than_a_quota_has_use_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "quota", lambda: None)
    cores.bound_libraries()
    assert not any(name in os.environ for name in names)
    monkeypatch.setattr(cores, "quota", lambda: 0.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    cores.bound_libraries()
    assert [os.environ[name] for name in names] == ["1", "7"]
    for name in cores._VARIABLES:
        monkeypatch.delenv(name)
