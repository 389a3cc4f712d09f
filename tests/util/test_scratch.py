from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge._util import scratch

_KEEP = (
    "import sys, time\n"
    "from pneumo_edge._util import scratch\n"
    "if sys.argv[1] == 'named':\n"
    "    scratch._are_readable_by_number = lambda: False\n"
    "with scratch.scratch() as place:\n"
    "    path = place.put('x-ray.jpeg', lambda stream: stream.write(b'an image'))\n"
    "    print(path, place.folder, flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, for it and its children."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def _hold(kind: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", _KEEP, kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().split()[0])


def _images(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_a_child_reads_what_has_no_name(temporary: Path) -> None:
    with scratch.scratch() as place:
        path = place.put("pixels.npy", lambda stream: np.save(stream, np.arange(10)))
        assert _images(temporary) == []
        program = f"import numpy as np; print(np.load({str(path)!r}, mmap_mode='r').sum())"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "45\n"
        assert np.load(path)[3] == 3
    assert not path.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files without a name take Linux's /proc")
def test_a_killed_process_leaves_no_image(temporary: Path) -> None:
    process, path = _hold("unnamed")
    assert path.read_bytes() == b"an image"
    process.kill()
    process.communicate()
    assert not path.exists()
    assert _images(temporary) == []


def test_where_files_need_names_the_next_start_removes_those_of_dead_processes_alone(temporary: Path) -> None:
    dead, left = _hold("named")
    alive, used = _hold("named")
    dead.kill()
    dead.communicate()
    assert left.read_bytes() == b"an image"
    with scratch.scratch():
        assert not left.parent.exists()
        assert used.read_bytes() == b"an image"
    alive.kill()
    alive.communicate()
    with scratch.scratch():
        assert _images(temporary) == []
        assert list(temporary.iterdir()) == []


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system tells of its processes: nothing but of this one, until a test says otherwise."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    monkeypatch.setattr(scratch, "_PROC", folder)
    return folder


@pytest.mark.usefixtures("processes")
def test_what_former_versions_left_is_removed_and_nothing_else(temporary: Path) -> None:
    for name in ("pneumo-edge-benchmark-abc", "pneumo-edge-evaluate-d_1", "pneumo-edge-supplement-x", "somebody-else"):
        (temporary / name).mkdir()
        (temporary / name / "00001.jpeg").write_bytes(b"an image")
    (temporary / "pneumo-edge-benchmark-link").symlink_to(temporary / "somebody-else")
    (temporary / "pneumo-edge-benchmark-file").write_bytes(b"mine")
    with scratch.scratch():
        pass
    assert sorted(path.name for path in temporary.iterdir()) == [
        "pneumo-edge-benchmark-file", "pneumo-edge-benchmark-link", "somebody-else",
    ]  # fmt: skip
    assert (temporary / "somebody-else" / "00001.jpeg").read_bytes() == b"an image"


@pytest.mark.parametrize("program", ["/usr/bin/python -m\0pneumo_edge\0benchmark\0", "/bin/pneumo-edge\0benchmark\0x"])
def test_what_a_former_version_may_be_using_stays(temporary: Path, processes: Path, program: str) -> None:
    (temporary / "pneumo-edge-benchmark-abc").mkdir()
    (temporary / "pneumo-edge-evaluate-abc").mkdir()
    (processes / "4711").mkdir()
    (processes / "4711" / "cmdline").write_text(program)
    with scratch.scratch():
        assert [path.name for path in temporary.iterdir()] == ["pneumo-edge-benchmark-abc"]
    (processes / "4711" / "cmdline").write_text("another\0program\0benchmark\0")
    with scratch.scratch():
        assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_full_disk_names_the_temporary_folder(temporary: Path) -> None:
    program = (
        "import numpy as np, resource\n"
        "from pneumo_edge._util import scratch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with scratch.scratch() as place:\n"
        "    try:\n"
        "        place.put('x', lambda stream: np.save(stream, np.zeros(10_000)))\n"
        "    except OSError as error:\n"
        "        print(error.filename)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{temporary}\n"
