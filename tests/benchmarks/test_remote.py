"""Benchmarks on other machines. Most tests take a stand-in for ``ssh`` that runs the command here, in another home."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge import Classifier, bundled
from pneumo_edge.benchmarks import results
from pneumo_edge.benchmarks.remote import agent, wheels
from pneumo_edge.benchmarks.remote.connection import Connection
from pneumo_edge.benchmarks.remote.fleet import Device, choose, read
from pneumo_edge.benchmarks.remote.run import Order, RemoteBenchmark, clean
from pneumo_edge.benchmarks.remote.wheels import Probe, Wanted
from pneumo_edge.data import carried
from pneumo_edge.data.sources import open_source
from pneumo_edge.errors import ArgumentError, DataError, DeviceError, ExitCode, PneumoEdgeError, ResultsError
from tests.benchmarks.conftest import MakeResults
from tests.benchmarks.link import bad_link
from tests.benchmarks.ssh import Host, sshd, write_script
from tests.present import present

#: Of the arguments of ssh the last is the command. Where there is a file ``lose``, the connection lasts a second.
_SSH = """#!/bin/sh
for word in "$@"; do command=$word; done
export HOME='{home}'
if [ -f '{lose}' ]; then
    rm '{lose}'
    timeout -s KILL 1 sh -c "$command"
    echo 'client_loop: send disconnect: Broken pipe' >&2
    exit 255
fi
echo 'Welcome to the board!'
echo 'pneumo-edge-device {{broken'
printf 'No end of this line: '
exec sh -c "$command"
"""
#: Stands in for the Python of an environment: a benchmark that takes a while and writes results made before.
_PYTHON = """#!/bin/sh
case "$*" in *"-m pneumo_edge benchmark"*) ;; *) exit 0 ;; esac
echo "$*" >> '{calls}'
for word in "$@"; do case "$last" in --out) out=$word ;; esac; last=$word; done
mkdir -p "$out"
cat models/*.tflite data/images/* > "$out/read" || exit 3
echo "Timing: 10 %" >&2
while [ -f '{hold}' ]; do sleep 0.1; done
if [ -f '{fail}' ]; then echo "error: it is too hot; expected a cool board. Wait." >&2; exit 3; fi
echo "Timing: done in 3 s" >&2
cp '{results}' "$out/results.json"
"""


@dataclass
class Board:
    """A device that is a folder here."""

    root: Path
    told: list[str]
    #: Whether the connection is lost while a benchmark is followed.
    loses: bool = False

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def folder(self) -> Path:
        return self.home / ".cache" / "pneumo-edge" / "device"

    @property
    def device(self) -> Device:
        return Device("board", "pi@board.local", environment=str(self.root / "environment"))

    def touch(self, name: str) -> None:
        (self.root / name).touch()

    def tell(self, line: str) -> None:
        self.told.append(line)
        if line.startswith("benchmark ") and self.loses:
            self.touch("lose")
            self.loses = False
        if line.startswith("connected again"):
            (self.root / "hold").unlink()

    def connection(self, **fields: Any) -> Connection:
        return Connection(replace(self.device, **fields), 5, self.tell, threading.Event())

    def benchmark(self, order: Order, patience_s: float = 20) -> RemoteBenchmark:
        return RemoteBenchmark(self.device, order, patience_s, self.tell)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_results: MakeResults) -> Board:
    root = tmp_path / "board"
    (root / "home").mkdir(parents=True)
    results.write(root / "made.json", make_results())
    write_script(root / "bin" / "ssh", _SSH.format(home=root / "home", lose=root / "lose"))
    names = {name: root / name for name in ("calls", "hold", "fail")}
    write_script(root / "environment" / "bin" / "python", _PYTHON.format(results=root / "made.json", **names))
    monkeypatch.setenv("PATH", str(root / "bin"), prepend=os.pathsep)
    return Board(root, [])


@pytest.fixture
def order(phantom_folder: Path, fake_model: Path) -> Order:
    return Order.of([fake_model], open_source(phantom_folder), ["--seed", "1"], [], may_lack=True)


def test_a_benchmark_goes_there_and_its_results_come_back(
    board: Board, order: Order, fake_model: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    at_work = board.benchmark(order)
    found = at_work.measure(tmp_path)
    assert found.machine.device == "board"
    made = results.read(board.root / "made.json")
    assert replace(found, machine=made.machine) == made
    (words,) = (board.root / "calls").read_text().splitlines()
    assert words.startswith("-m pneumo_edge benchmark models/fake.tflite --seed 1 --data data --out ")
    # It read the model and every test image, and no other.
    (read_there,) = board.folder.glob("runs/*/out/read")
    images = sorted((phantom_folder / "test").rglob("*.png"), key=lambda path: path.stat().st_size)
    assert read_there.stat().st_size == sum(path.stat().st_size for path in [fake_model, *images])
    assert "Timing: done in 3 s" in board.told
    assert not list(tmp_path.glob("received*"))

    at_work.forget()
    board.told.clear()
    again = board.benchmark(order)
    again.measure(tmp_path)
    assert not [line for line in board.told if line.startswith("sending")]
    again.forget()

    # What was damaged there is sent again, and that alone.
    stored = board.folder / "files" / order.contents["models/fake.tflite"].sha256
    stored.write_bytes(bytes(stored.stat().st_size))
    board.told.clear()
    board.benchmark(order).measure(tmp_path)
    size = stored.stat().st_size / 1e6
    assert [line for line in board.told if line.startswith("sending")] == [
        f"sending models and images ({size:,.1f} MB)"
    ]
    assert stored.read_bytes() == fake_model.read_bytes()
    # Results that were damaged before they were fetched are measured again.
    (there,) = board.folder.glob("runs/*/out/results.json")
    there.write_bytes(there.read_bytes()[:100])
    board.benchmark(order).measure(tmp_path)


def test_one_benchmark_runs_there_at_a_time_and_goes_to_the_command_that_asked_last(
    board: Board, order: Order, tmp_path: Path
) -> None:
    board.touch("hold")
    first = Board(board.root, [])
    ended: list[Exception] = []

    def measure() -> None:
        try:
            first.benchmark(order).measure(tmp_path)
        except PneumoEdgeError as error:
            ended.append(error)

    other = replace(order, words=(*order.words, "--threads", "2"))

    def tell(line: str) -> None:
        board.tell(line)
        if line.endswith("is running there"):
            at_work.join(10)
            with pytest.raises(
                DeviceError, match=r"board: benchmark \w+ is running there; expected one benchmark at a"
            ):
                board.benchmark(other).measure(tmp_path)
            (board.root / "hold").unlink()

    at_work = threading.Thread(target=measure)
    at_work.start()
    while "Timing: 10 %" not in first.told:
        time.sleep(0.05)
    RemoteBenchmark(board.device, order, 0, tell).measure(tmp_path)
    (error,) = ended
    assert str(error).startswith("board: another command has continued or removed benchmark ")
    assert not [line for line in first.told if "connection lost" in line]
    assert len((board.root / "calls").read_text().splitlines()) == 1


def test_a_lost_connection_is_made_again_and_nothing_is_lost_or_said_twice(
    board: Board, order: Order, tmp_path: Path
) -> None:
    board.touch("hold")
    board.loses = True
    board.benchmark(order).measure(tmp_path)
    assert [line for line in board.told if line.startswith("connection lost (client_loop")]
    assert [line for line in board.told if line.startswith("connected again after")]
    assert board.told.count("Timing: 10 %") == board.told.count("Timing: done in 3 s") == 1
    assert len((board.root / "calls").read_text().splitlines()) == 1


def test_the_same_command_finds_what_runs_there(board: Board, order: Order, tmp_path: Path) -> None:
    board.touch("hold")
    board.loses = True
    with pytest.raises(DeviceError, match=r"was lost for 0 s \(client_loop"):
        board.benchmark(order, patience_s=0).measure(tmp_path)
    (board.root / "hold").unlink()
    assert board.benchmark(order).measure(tmp_path).machine.device == "board"
    assert re.search(r"benchmark \w+ is (running|finished) there", "\n".join(board.told))
    assert len((board.root / "calls").read_text().splitlines()) == 1


def test_a_benchmark_that_fails_there_says_its_reason_and_is_tried_again(
    board: Board, order: Order, tmp_path: Path
) -> None:
    board.touch("fail")
    with pytest.raises(ResultsError, match=r"^board: it is too hot; expected a cool board\. Wait\.$"):
        board.benchmark(order).measure(tmp_path)
    (board.root / "fail").unlink()
    board.benchmark(order).measure(tmp_path)


def test_clean_ends_what_runs_and_removes_all_of_ours_and_nothing_else(
    board: Board, order: Order, tmp_path: Path
) -> None:
    board.touch("hold")
    board.loses = True
    other = board.home / ".cache" / "other" / "file"
    other.parent.mkdir(parents=True)
    other.touch()
    with pytest.raises(DeviceError):
        board.benchmark(order, patience_s=0).measure(tmp_path)
    assert _running(board.root)
    board.told.clear()
    # A loss of power may leave it empty.
    (board.folder / "created.json").write_bytes(b"")
    clean(board.device, 0, board.tell)
    assert not _running(board.root)
    assert board.told[0].startswith("stopped benchmark ")
    assert f"removed {board.folder / 'runs'}" in "\n".join(board.told)
    assert [path for path in board.home.rglob("*") if path.is_file()] == [other]
    assert not board.folder.exists()

    board.told.clear()
    clean(board.device, 0, board.tell)
    assert board.told == ["nothing to remove in ~/.cache/pneumo-edge/device"]


def _running(folder: Path) -> list[bytes]:
    """The command lines of this system that name a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(each.read_bytes())
    return [line for line in found if os.fsencode(folder) in line]


def test_a_folder_that_is_not_ours_is_refused_and_left(board: Board, order: Order, tmp_path: Path) -> None:
    mine = board.home / "mine" / "files" / "thesis"
    mine.parent.mkdir(parents=True)
    mine.touch()
    device = replace(board.device, folder="~/mine")
    with pytest.raises(DeviceError, match=r"mine is there and not from pneumo-edge; expected a new or an empty folder"):
        RemoteBenchmark(device, order, 0, board.tell).measure(tmp_path)
    clean(device, 0, board.tell)
    assert mine.is_file()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"folder": "/proc/pneumo-edge"}, r"^board: cannot use /proc/pneumo-edge: .*; expected a folder"),
        ({"folder": "~nosuchuser/x"}, r"^board: ~nosuchuser/x is the home of a user that is not there"),
        ({"environment": "~nosuchuser/x"}, r"^board: ~nosuchuser/x is the home of a user that is not there"),
        ({"python": "/no/python"}, r"^board has no usable Python \(/no/python is not there\)"),
        ({"environment": "/no/environment"}, r"^board: /no/environment/bin/python is not there"),
    ],
)
def test_a_device_that_cannot_be_used_is_told_in_a_line(
    board: Board, order: Order, tmp_path: Path, fields: dict[str, str], words: str
) -> None:
    device = replace(board.device, **fields)
    with pytest.raises(DeviceError, match=words) as raised:
        RemoteBenchmark(device, order, 0, board.tell).measure(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_device_without_python_is_told_with_the_one_that_it_has(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("python3", *(f"python3.{minor}" for minor in range(11, 15)), "python"):
        write_script(board.root / "bin" / name, '#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    with pytest.raises(DeviceError, match=r"^board has no usable Python \(Python 3\.9\.2\); expected Python 3\.11"):
        board.connection().probe()


def test_no_room_is_told_before_anything_is_sent(
    board: Board, order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Connection.request

    def cramped(self: Connection, do: str, *words: Any, **argument: Any) -> Any:
        found = request(self, do, *words, **argument)
        return {**found, "free_bytes": 1000} if do == "probe" else found

    monkeypatch.setattr(Connection, "request", cramped)
    with pytest.raises(DeviceError, match=r"^board has 0 MB free in ~/\.cache/.*; expected 1 MB for models and images"):
        board.benchmark(order).measure(tmp_path)
    assert not list(board.folder.glob("files/*"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ssh: Could not resolve hostname board: Name or service not known", "is an unknown host"),
        ("ssh: connect to host board port 22: Connection refused", "refuses the connection"),
        ("ssh: connect to host board port 22: Connection timed out", "does not answer"),
        ("ssh: connect to host board port 22: No route to host", "does not answer"),
        ("Host key verification failed.", "has a host key that is not known here"),
        ("pi@board: Permission denied (publickey).", "does not let this user in"),
        ("something new\nof two lines", "is not reached (of two lines)"),
    ],
)
def test_what_ssh_says_becomes_one_line(board: Board, said: str, words: str) -> None:
    lines = "".join(f"echo '{line}' >&2\n" for line in said.splitlines())
    write_script(board.root / "bin" / "ssh", f"#!/bin/sh\n{lines}exit 255\n")
    with pytest.raises(DeviceError) as raised:
        board.connection().probe()
    assert str(raised.value).startswith(f"board {words}")
    assert "\n" not in str(raised.value)


_WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1).filter(lambda text: text[0] not in "-_.")


@given(st.one_of(st.just(""), _WORD), _WORD, st.one_of(st.none(), st.integers(1, 65535)))
def test_a_host_is_taken_apart_as_it_was_written(user: str, host: str, port: int | None) -> None:
    destination = f"{user}@{host}" if user else host
    device = Device("board", destination if port is None else f"{destination}:{port}")
    assert (device.destination, device.port) == (destination, port)


@pytest.mark.parametrize(
    "host", ["", "-oProxyCommand=x", "a b", "pi@", "@board", "board:", "board:0", "board:70000", "a:b"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ArgumentError, match="the host of a device is"):
        Device("board", host)


def test_devices_come_from_the_table_or_are_hosts(tmp_path: Path) -> None:
    table = tmp_path / "devices.toml"
    table.write_text(
        '[board]\nhost = "pi@10.0.0.7:2222"\nfolder = "/data/bench"\n[phone]\nhost = "[fe80::1%eth0]:8022"\n'
    )
    known = read(table)
    assert known["phone"].destination == "fe80::1%eth0"
    assert [device.name for device in choose([], known)] == ["board", "phone"]
    first, second = choose(["board", "root@other"], known)
    assert (first.folder, first.port) == ("/data/bench", 2222)
    assert (second.name, second.host) == ("root@other", "root@other")
    with pytest.raises(ArgumentError, match="same folder of results"):
        choose(["a:1", "a_1"], known)
    with pytest.raises(ArgumentError, match=r"'board' and 'pi@10.0.0.7:2222' are the same host"):
        choose(["board", "pi@10.0.0.7:2222"], known)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[board", "is not TOML"),
        ("[board]\n", "has no host for 'board'"),
        ('board = "pi@x"\n', "has no host for 'board'"),
        ('[board]\nhost = "x"\npassword = "y"\n', "has password = 'y' for 'board'"),
        ('[board]\nhost = "x"\nport = 22\n', "has port = 22 for 'board'"),
        ('[board]\nhost = "x"\nenvironment = "mine"\n', "the environment of the device board is 'mine'"),
    ],
)
def test_a_faulty_table_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=re.escape(words)):
        read(path)


def test_carried_images_are_those_of_the_test_split(phantom_folder: Path, tmp_path: Path) -> None:
    source = open_source(phantom_folder)
    tested = [sample for sample in source.samples if sample.split == "test"]
    unreadable = phantom_folder / "test" / "NORMAL" / "5.png"
    unreadable.unlink()
    record, images = carried.carry(source, tested)
    for name, (sample, _, _) in images.items():
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(sample))
    (tmp_path / "there" / carried.NAME).write_bytes(record)
    there = open_source(tmp_path / "there")
    assert there.samples == tuple(tested)
    assert (there.title, there.task, there.real, there.licence) == (source.title, source.task, False, source.licence)
    for sample in tested:
        try:
            expected: object = source.read(sample)
        except PneumoEdgeError as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                there.read(sample)
        else:
            assert there.read(sample) == expected

    (tmp_path / "there" / carried.NAME).write_bytes(record[:-30])
    with pytest.raises(DataError, match=f"{carried.NAME} cannot be read"):
        open_source(tmp_path / "there")


def _probe(**fields: Any) -> Probe:
    found = agent.probe({"folder": "/"})
    return Probe(**{**found, **fields})


def test_a_device_takes_wheels_of_its_system_and_no_newer_ones() -> None:
    probe = _probe(system="Linux", architecture="aarch64", libc="glibc", libc_version="2.31")
    assert "manylinux_2_31_aarch64" in probe.platforms
    assert "manylinux2014_aarch64" in probe.platforms
    assert not [tag for tag in probe.platforms if "2_32" in tag or "x86" in tag]
    assert _probe(system="Linux", libc="musl", libc_version="1.1").platforms[0].startswith("musllinux_1_1_")
    assert _probe(system="Darwin").platforms == []


@pytest.mark.slow
def test_without_wheels_the_error_names_library_and_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(_bundled_pip().parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    own = _tiny_wheel(tmp_path, "numpy")
    probe = _probe(system="Linux", architecture="riscv64", libc="glibc", libc_version="2.39")
    with pytest.raises(DeviceError, match=r"the environment of board cannot be made: no wheels of numpy for riscv64"):
        wheels.download(own, Wanted((), ()), probe, "board", may_lack=False)


def _bundled_pip() -> Path:
    """The wheel of pip that Python brings."""
    ensurepip = importlib.util.find_spec("ensurepip")
    found = list((Path(str(ensurepip and ensurepip.origin)).parent / "_bundled").glob("pip-*.whl"))
    if not found:
        pytest.skip("this Python brings no wheel of pip")
    return found[0]


def _tiny_wheel(folder: Path, *requires: str) -> Path:
    path = folder / "pneumo_edge-1.0-py3-none-any.whl"
    lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(path, "w") as archive:
        inside = "pneumo_edge-1.0.dist-info"
        archive.writestr("pneumo_edge/__init__.py", "ANSWER = 42\n")
        for name in ("numpy", "PIL/__init__", "PIL/Image", "psutil", "cpuinfo"):
            archive.writestr(f"{name}.py", "")
        archive.writestr(f"{inside}/METADATA", f"Metadata-Version: 2.1\nName: pneumo-edge\nVersion: 1.0\n{lines}")
        archive.writestr(f"{inside}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{inside}/RECORD", "")
    return path


@pytest.mark.slow
def test_an_environment_is_made_without_an_index_and_without_the_pip_of_the_device(tmp_path: Path) -> None:
    pip = _bundled_pip()
    own = _tiny_wheel(tmp_path)
    folder = tmp_path / "device"
    (folder / "files").mkdir(parents=True)
    (folder / "created.json").write_text("[]")
    contents = {path.name: path.stem for path in (own, pip)}
    for path in (own, pip):
        shutil.copy(path, folder / "files" / path.stem)
    argument = {"folder": str(folder), "environment": "key"}
    assert agent.is_ready(argument) == ""
    made = agent.install({**argument, "wheels": contents, "own": own.name, "extras": [], "others": [], "index": False})
    run = subprocess.run(
        [made["python"], "-c", "import pneumo_edge; print(pneumo_edge.ANSWER)"], capture_output=True, cwd=tmp_path
    )
    assert run.stdout == b"42\n"
    assert agent.is_ready(argument) == made["python"]
    assert not list((folder / "files").iterdir())
    # One that was damaged is made again.
    next((folder / "environments").glob("key/lib/*/site-packages/psutil.py")).unlink()
    assert agent.is_ready(argument) == ""


def test_choose_takes_the_results_of_a_device(make_results: MakeResults, tmp_path: Path) -> None:
    made = make_results()
    for name in ("pi4", "pi5"):
        results.write(tmp_path / f"{name}.json", replace(made, machine=replace(made.machine, device=name)))
    command = [sys.executable, "-m", "pneumo_edge", "choose", "pi4.json", "pi5.json"]
    chosen = subprocess.run([*command, "--device", "pi5"], cwd=tmp_path, capture_output=True, text=True)
    assert chosen.returncode == ExitCode.OK, chosen.stderr
    assert chosen.stdout.startswith("mobilenetv2-")
    for words in ((), ("--device", "pi6")):
        refused = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == ExitCode.USAGE
        assert "pi4.json (pi4)" in " ".join(refused.stderr.replace("│", " ").split())


def test_our_own_wheel_has_every_file_and_installs_and_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (wheels.make_own(folder) for folder in (_made(tmp_path / "1"), _made(tmp_path / "2")))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        record = archive.read(next(name for name in names if name.endswith("/RECORD"))).decode().splitlines()
    assert {"pneumo_edge/cli/benchmark.py", "pneumo_edge/benchmarks/remote/agent.py"} <= set(names)
    assert any(name.startswith("pneumo_edge/bundled/") and name.endswith(".tflite") for name in names)
    assert not [name for name in names if "__pycache__" in name]
    assert [line.split(",")[0] for line in record] == names


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with sshd(tmp_path / "sshd", "127.0.0.1") as found:
        yield found


def _cut_while_it_runs(command: list[str], host: Host, cut: Callable[[], None]) -> tuple[int, str, str]:
    """Run a command, and cut its connection when a benchmark has started there: its exit code, output and errors."""
    with subprocess.Popen(
        command, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        said = ""
        assert run.stderr
        assert run.stdout
        for line in run.stderr:
            said += line
            if " started there" in line and "lost" not in line:
                time.sleep(0.5)
                cut()
        shown = run.stdout.read()
    return run.returncode, shown, said


@pytest.mark.slow
def test_a_device_is_measured_through_ssh_across_a_cut_and_one_that_is_off_does_not_stop_it(
    host: Host, phantom_folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "devices.toml"
    table.write_text(
        f'[board]\nhost = "board"\nfolder = "~/bench/all"\nenvironment = "{sys.prefix}"\n[off]\nhost = "off:1"\n'
    )
    models = [bundled.path(name) for name in ("mobilenetv2", "efficientnetb0")]
    few = ("--engine", "litert", "--processes", "1", "--queries", "12", "--seconds", "0")
    command = [sys.executable, "-m", "pneumo_edge", "benchmark", *map(str, models), "--data", str(phantom_folder), *few]
    code, shown, said = _cut_while_it_runs(
        [*command, "--devices", str(table), "--out", str(tmp_path / "out"), "--clean"], host, host.cut
    )
    assert code == ExitCode.SOME_UNJUDGED, said
    assert "board: connected again after" in said
    assert "\nerror: off refuses the connection (" in said
    assert shown.startswith("board, ")
    assert "Traceback" not in said
    found = results.read(tmp_path / "out" / "board" / "results.json")
    assert found.machine.device == "board"
    assert [each.unit.model for each in found.units] == [model.name for model in models]
    for unit, model in zip(found.units, models, strict=True):
        classifier = Classifier(model, engine="litert")
        for name, probability in unit.probabilities.items():
            assert classifier.predict(phantom_folder / name).probabilities["PNEUMONIA"] == probability
    assert list(present(found.test_set).left_out) == ["test/NORMAL/broken.png"]
    report = (tmp_path / "out" / "board" / "report.md").read_text().splitlines()
    assert report[0].startswith("# Chest X-ray classifiers on board, ")
    assert not list(host.home.iterdir())


def _shape(document: Any) -> Any:
    """The names in a JSON document, with those of all that its lists have."""
    if isinstance(document, dict):
        return {name: _shape(value) for name, value in document.items()}
    if isinstance(document, list):
        return sorted({json.dumps(_shape(value), sort_keys=True) for value in document})
    return ""


@pytest.mark.slow
def test_results_across_a_bad_and_cut_link_are_like_those_of_this_machine(phantom_folder: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        try:
            link = stack.enter_context(bad_link(delay_s=0.04, loss=0.02))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a network namespace with a TUN device cannot be made here: {error}")
        host = stack.enter_context(sshd(tmp_path / "sshd", link.address, "ip", "netns", "exec", link.namespace))
        table = tmp_path / "devices.toml"
        table.write_text(f'[board]\nhost = "board"\nenvironment = "{sys.prefix}"\n')
        models = [str(bundled.path(name)) for name in ("mobilenetv2", "efficientnetb0")]
        few = ("--engine", "litert", "--processes", "1", "--queries", "12", "--seconds", "0", "--seed", "3")
        command = [sys.executable, "-m", "pneumo_edge", "benchmark", *models, "--data", str(phantom_folder), *few]
        subprocess.run([*command, "--out", str(tmp_path / "here")], check=False, capture_output=True)
        code, _, said = _cut_while_it_runs(
            [*command, "--devices", str(table), "--out", str(tmp_path / "out"), "--clean"], host, lambda: link.cut(25)
        )
    assert code in (ExitCode.OK, ExitCode.SOME_UNJUDGED), said
    assert "board: connected again after" in said
    assert link.packets["lost"] > 0.01 * link.packets["passed"]
    here, there = (
        json.loads((tmp_path / place / "results.json").read_bytes()) for place in ("here", Path("out", "board"))
    )
    assert there["machine"]["device"] == "board"
    for each in (here, there):
        del each["machine"]
    assert _shape(there) == _shape(here)
    assert there["settings"] == here["settings"]
    of_here, of_there = (
        [(unit["unit"], sorted(unit["probabilities"].items())) for unit in each["units"]] for each in (here, there)
    )
    assert of_there == of_here
    assert not list(host.home.iterdir())
