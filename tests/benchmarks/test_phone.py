"""Benchmarks on a phone, with a stand-in for ``adb`` that behaves as its documentation says: it runs commands here."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.benchmarks import results
from pneumo_edge.benchmarks.remote import phone
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode

_ADB = """#!/bin/sh
home='{home}'
if [ "$1" = -s ]; then serial=$2; shift 2; fi
state=$(cat "$home/state")
[ -z "$serial" ] || [ "$serial" = PHONE1 ] || state=missing
[ "$state" != several ] || [ -n "$serial" ] || {{ echo 'adb: more than one device/emulator' >&2; exit 1; }}
case $state in
    missing) echo "adb: device '$serial' not found" >&2; exit 1 ;;
    unauthorized) printf "adb: device unauthorized.\\nThis adb server's \\$ADB_VENDOR_KEYS is not set\\n" >&2; exit 1 ;;
    offline) echo 'adb: device offline' >&2; exit 1 ;;
esac
case $1 in
    get-state) echo device ;;
    push)
        if [ "$state" = full ]; then
            echo "adb: error: failed to copy '$2' to '$3': remote couldn't create file: No space left on device" >&2
            exit 1
        fi
        cp "$2" "$3" && echo "$2: 1 file pushed, 0 skipped. 30.0 MB/s (3 bytes in 0.1s)" ;;
    shell)
        shift; echo "$*" >> "$home/commands"
        if [ -f "$home/starts" ]; then
            case "$*" in *--graph=*)
                left=$(cat "$home/starts"); echo $((left - 1)) > "$home/starts"
                [ "$left" -gt 0 ] || {{ echo missing > "$home/state"; exit 255; }} ;;
            esac
        fi
        PATH="$home/bin:$PATH" sh -c "$*" ;;
esac
"""
_GETPROP = """#!/bin/sh
case $1 in *manufacturer) echo Acme ;; *product.model) echo One ;; *soc.model) echo SC1 ;; *abi) echo arm64-v8a ;;
    *release) echo 14 ;; *) echo ;; esac
"""
#: It takes as many microseconds as the file has kilobytes.
_BINARY = """#!/bin/sh
for word in "$@"; do case $word in --graph=*) graph=${word#--graph=} ;; esac; done
echo "INFO: STARTING!"
us=$(($(wc -c < "$graph") / 1000)); more=$((us + $$ % 7 + 1))
cat <<END
INFO: Loaded model $graph
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 3.1
INFO: Initialized session in 6.4ms.
INFO: Running benchmark for at least 10 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=10 first=90000 curr=$us min=$us max=90000 avg=9000 std=2 p5=$us median=$us p95=90000

INFO: Running benchmark for at least 2 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=2 first=$more curr=$us min=$us max=$more avg=$us.5 std=1 p5=$us median=$us p95=$more

INFO: Inference timings in us: Init: 6400, First inference: 90000, Warmup (avg): 9000, Inference (avg): $us.5
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual.
INFO: Memory footprint delta from the start of the tool (MB): init=6.5 overall=12.5
END
"""


@dataclass(frozen=True)
class Phone:
    """The stand-in: what adb says of it (``state``), its folder, and the command that measures on it."""

    home: Path
    words: tuple[str, ...]

    def be(self, state: str) -> None:
        (self.home / "state").write_text(state)

    def measure(self, *more: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["benchmark", *self.words, *more])
        return found.exit_code, found.output

    @property
    def results(self) -> Path:
        return self.home / "out" / "adb_PHONE1" / "results.json"


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    _program(tmp_path / "here" / "adb", _ADB.format(home=tmp_path))
    _program(tmp_path / "bin" / "getprop", _GETPROP)
    binary = _program(tmp_path / "benchmark_model", _BINARY)
    monkeypatch.setenv("PATH", f"{tmp_path / 'here'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    words = ["mobilenetv2", "efficientnetb0", "--device", "adb:PHONE1", "--benchmark-model", str(binary)]
    words += ["--device-folder", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    found = Phone(tmp_path, (*words, "--preset", "rapid", "--processes", "2", "--queries", "6", "--seconds", "0"))
    found.be("device")
    return found


def test_a_phone_is_measured_by_the_protocol_in_what_the_binary_tells(acme: Phone) -> None:
    code, told = acme.measure()
    assert code == 0, told
    assert "Acme One, SC1, arm64-v8a, Android 14" in told
    found = results.read(acme.results)
    assert (found.machine.device, found.test_set) == ("adb:PHONE1", None)
    assert {each.unit.engine for each in found.units} == {"benchmark_model"}
    assert len(found.twins) == 1
    for each in found.units:
        size = next(model.size_bytes for model in found.models if model.file == each.unit.model)
        for process in each.latency:
            assert process.inference.cpu_ns is None
            assert process.file_to_verdict is None
            assert len(process.inference.rounds) == 4
            assert min(process.inference.wall_ns) == size // 1000 * 1000
            assert (process.load_ns, process.first_inference_ns) == (6_400_000, 90_000_000)
        assert {sample.above_bytes for sample in each.memory} == {int(12.5 * 2**20)}
        assert {sample.baseline_bytes for sample in each.memory} == {None}
    assert "End to end" not in told
    assert (acme.results.parent / "verdict.json").exists()
    # Units take turns: no unit is started twice in a round.
    starts = [line for line in (acme.home / "commands").read_text().splitlines() if "--num_runs=2 --min_secs=0" in line]
    assert len(starts) == 2 * (1 + 3) + 2 * 3 * (1 + 2)


def test_a_phone_that_was_unplugged_is_resumed(acme: Phone) -> None:
    (acme.home / "starts").write_text("19")
    code, told = acme.measure()
    assert code == ExitCode.FAILED, told
    assert "error: adb:PHONE1 is not connected (adb: device 'PHONE1' not found)" in told
    assert "--resume" in told
    (acme.home / "starts").unlink()
    acme.be("device")
    code, told = acme.measure()
    assert code == ExitCode.FAILED, told
    assert "Give --resume to continue" in told
    (acme.home / "commands").unlink()
    code, told = acme.measure("--resume")
    assert code == 0, told
    # Accuracy, memory and the first process are kept.
    assert (acme.home / "commands").read_text().count("--graph=") == 3 * (1 + 2)


def test_clean_removes_what_was_put_there_and_nothing_else(acme: Phone) -> None:
    assert acme.measure("--clean")[0] == 0
    assert not (acme.home / "data").exists()
    (acme.home / "data").mkdir()
    (acme.home / "data" / "photo.jpg").touch()
    words = ["benchmark", "--device", "adb:PHONE1", "--device-folder", str(acme.home / "data"), "--clean"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == ExitCode.FAILED
    assert "has photo.jpg, which is not of a benchmark" in told.output
    assert (acme.home / "data" / "photo.jpg").exists()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("missing", "adb:PHONE1 is not connected"),
        ("unauthorized", "adb:PHONE1 does not allow this computer (adb: device unauthorized)"),
        ("offline", "adb:PHONE1 is offline"),
        ("full", "adb:PHONE1 has no room left"),
    ],
)
def test_a_phone_that_cannot_be_used_is_named_in_a_line(acme: Phone, state: str, says: str) -> None:
    acme.be(state)
    code, told = acme.measure()
    assert code == ExitCode.FAILED, told
    assert len([line for line in told.splitlines() if line.startswith("error: ")]) == 1
    assert says in told


@pytest.mark.parametrize(
    ("binary", "says"),
    [
        ("#!/bin/sh\necho '/system/bin/sh: ./x: not executable: 64-bit ELF file' >&2; exit 126\n", "cannot run"),
        ("#!/bin/sh\necho 'ERROR: Failed to load model'; exit 1\n", "refuses mobilenetv2-int8.tflite"),
        ("#!/bin/sh\necho Hello\n", "no statistics of calls"),
    ],
)
def test_a_binary_that_fails_is_named_with_what_it_says(acme: Phone, binary: str, says: str) -> None:
    _program(acme.home / "benchmark_model", binary)
    code, told = acme.measure()
    assert code == ExitCode.FAILED, told
    assert says in told


def test_what_a_phone_needs_is_said_before_anything_is_measured(acme: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    several = replace(acme, words=tuple("adb:" if word == "adb:PHONE1" else word for word in acme.words))
    acme.be("several")
    assert "is one of several (adb: more than one device/emulator)" in several.measure()[1]
    place = acme.words.index("--benchmark-model")
    without = replace(acme, words=acme.words[:place] + acme.words[place + 2 :])
    assert "Give --benchmark-model PATH" in without.measure()[1]
    assert "adb:PHONE1" not in acme.measure("--engine", "litert")[1].split("Invalid value")[0]
    monkeypatch.setenv("PATH", "/nowhere")
    assert "there is no adb here" in acme.measure()[1]


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("count=2 first=11 curr=9 min=9 max=11 avg=10 std=1 p5=9 median=9 p95=11", (9, 11)),
        ("curr=9 count=2 min=9 max=11 avg=10 std=1", (9, 11)),
        ("count=2 curr=9(all same)", (9, 9)),
        ("count=1 curr=2732148 p5=2732148 median=2732148 p95=2732148", (2732148,)),
    ],
)
def test_the_calls_are_read_as_any_version_prints_them(line: str, calls: tuple[float, ...]) -> None:
    text = (
        f"INFO: count=1 curr=77\nINFO: {line}\nINFO: Inference timings in us: Init: 458883, First inference: 2732148, "
        "Warmup (avg): 2.73215e+06, Inference (avg): 2.71985e+06\n(MB): init=286.73 overall=337\n"
    )
    found = phone.parse(text)
    assert (found.calls_us, found.init_us, found.memory_mb) == (calls, 458883, 337)
