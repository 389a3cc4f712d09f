from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pneumo_edge._util import files


def test_a_new_file_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text.json"
    files.write_text(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    path.write_text("a longer text than the new one")
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_text("old")
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("whole")
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], existed: bool) -> None:
    path = tmp_path / "model.tflite"
    if existed:
        path.write_text("old")
    with pytest.raises(error), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == ([("model.tflite", "old")] * existed)


def test_the_temporary_name_keeps_the_ending(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_text("")


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / f"{'ä' * 124}.jsonl"
    files.write_text(path, "text")
    assert path.read_text() == "text"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    with files.atomic(path) as first, files.atomic(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_gets_the_usual_permissions(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        files.write_text(tmp_path / "text.json", "")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "text.json").stat().st_mode) == 0o666 & ~umask


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    path.write_text("old")
    # A limit on the size of files stops a write midway, as a full disk does.
    program = (
        "import resource, signal, sys; from pathlib import Path; from pneumo_edge._util import files;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "files.write_text(Path(sys.argv[1]), 'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert f"[Errno {errno.EFBIG}]" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_a_folder_is_an_os_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("mine")
    with pytest.raises(OSError, match="file"):
        files.write_text(blocker / "text.json", "")
    assert blocker.read_text() == "mine"


def test_an_unwritable_folder_is_an_os_error(tmp_path: Path, obey_permissions: Callable[[], None]) -> None:
    path = tmp_path / "text.json"
    path.write_text("old")
    tmp_path.chmod(0o500)
    program = (
        "import sys; from pathlib import Path; from pneumo_edge._util import files; "
        "files.write_text(Path(sys.argv[1]), '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
        check=False,
    )
    tmp_path.chmod(0o700)
    assert "PermissionError" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_sha256_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(300_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest = files.sha256(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    expected = hashlib.sha256()
    for _ in range(300):
        expected.update(bytes(1_000_000))
    assert digest == expected.hexdigest()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it takes /proc to tell a dead process")
def test_what_a_killed_process_left_goes_when_something_is_written_there_again(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from pneumo_edge._util import files\n"
        "with files.atomic(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of an image')\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.npy")]
    (tmp_path / ".partial-mine").write_text("not one of these")
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as dead,
        subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as alive,
    ):
        for process in (dead, alive):
            assert process.stdout
            process.stdout.readline()
        dead.kill()
        dead.wait()
        assert len(list(tmp_path.iterdir())) == 3
        files.write_text(tmp_path / "y.json", "whole")
        assert len(list(tmp_path.iterdir())) == 3
        alive.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-mine", "x.npy", "y.json"]


def test_a_library_that_locks_what_it_writes_may(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with files.atomic(tmp_path / "weights.h5") as temporary, temporary.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stream.write(b"as HDF5 does")
    assert (tmp_path / "weights.h5").read_bytes() == b"as HDF5 does"


def test_a_folder_is_replaced_as_a_whole_behind_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, link = tmp_path / "site-1", tmp_path / "site"
    place.mkdir()
    (place / "old").touch()
    link.symlink_to(place.name)
    with pytest.raises(ValueError), files.whole_folder(link) as folder:
        (folder / "half").touch()
        raise ValueError
    assert [path.name for path in link.iterdir()] == ["old"]
    with files.whole_folder(link) as folder:
        (folder / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in place.iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"site", "site-1"}
    monkeypatch.chdir(place)
    with pytest.raises(OSError, match=r"the current folder cannot be replaced: '\.'"), files.whole_folder(Path()):
        pytest.fail("the block must not run")
    assert [path.name for path in place.iterdir()] == ["new"]
