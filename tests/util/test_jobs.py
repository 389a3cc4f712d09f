from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge._util import jobs, locks
from pneumo_edge.errors import BusyError

_HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from pneumo_edge._util import jobs\n"
    "with jobs.alone(Path(sys.argv[1]), 'benchmark', 'Do it again'):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "results.json"


@pytest.fixture
def holder(target: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(target)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_job_is_refused_and_told_by_whom(target: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(BusyError) as caught, jobs.alone(target, "benchmark", ""):
        pass
    assert caught.value.given == f"another benchmark is writing {target} (process {holder.pid})"


def test_the_lock_of_a_killed_process_is_nobodys(target: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert list(target.parent.iterdir()) == [target.with_name("results.json.lock")]
    with jobs.alone(target, "benchmark", ""):
        assert json.loads(target.with_name("results.json.lock").read_bytes())["process"] == os.getpid()
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_a_process_does_not_go_beside_itself(target: Path) -> None:
    with jobs.alone(target, "benchmark", ""):
        with pytest.raises(BusyError, match=rf"process {os.getpid()}"), jobs.alone(target, "supplement", ""):
            pass
        with jobs.alone(target.with_name("other.json"), "benchmark", ""):
            pass


def test_an_interrupt_says_how_to_continue_and_leaves_nothing(target: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, jobs.alone(target, "benchmark", "Do it again"):
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["Do it again"]
    assert not target.parent.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"job": 1}', bytes(range(256))])
def test_whatever_an_unlocked_lock_file_holds_it_is_taken(target: Path, content: bytes) -> None:
    target.parent.mkdir()
    target.with_name("results.json.lock").write_bytes(content)
    with jobs.alone(target, "benchmark", ""):
        pass
    assert list(target.parent.iterdir()) == []


def _race(path: str, start: object, wins: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    for _ in range(50):
        try:
            with jobs.alone(Path(path), "benchmark", ""):
                with Path(f"{path}.inside").open("x"):
                    pass
                Path(f"{path}.inside").unlink()
                wins.put(1)  # type: ignore[attr-defined]
        except BusyError:
            pass


def test_no_two_of_many_are_ever_inside(target: Path) -> None:
    target.parent.mkdir()
    context = multiprocessing.get_context("spawn")
    barrier, wins = context.Barrier(3), context.Queue()
    racers = [context.Process(target=_race, args=(str(target), barrier, wins)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    # Two that were inside at once would have met at the file that is made anew.
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert not wins.empty()
    wins.close()
    wins.join_thread()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks."""
    monkeypatch.setattr(locks, "take", lambda descriptor: None)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_live_process_is_told_from_a_dead_one(target: Path, holder: subprocess.Popen[str]) -> None:
    lock = target.with_name("results.json.lock")
    words = rf"process {holder.pid}.*if it no longer runs, delete {re.escape(str(lock))}"
    with pytest.raises(BusyError, match=words), jobs.alone(target, "benchmark", ""):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with jobs.alone(target, "benchmark", ""):
        pass


@pytest.mark.usefixtures("no_locks")
@given(name=st.sampled_from(["{space}-{process}-1", "{space}-999999999-1", "0abc-{process}-1", ""]))
def test_without_locks_a_number_that_was_given_again_is_not_the_process(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    target = tmp_path_factory.mktemp("job") / "results.json"
    lock = target.with_name("results.json.lock")
    with jobs.alone(target, "benchmark", ""):
        owner = json.loads(lock.read_bytes())
    changed = name.format(space=owner["name"].partition("-")[0], process=owner["process"])
    lock.write_text(json.dumps(owner | {"name": changed}))
    if "{space}" in name:  # the number is taken by another process of this machine
        with jobs.alone(target, "benchmark", ""):
            pass
    else:  # of another machine or container nothing is known
        with pytest.raises(BusyError), jobs.alone(target, "benchmark", ""):
            pass


def test_new_folders_that_a_job_leaves_empty_are_removed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with jobs.alone(tmp_path / "old" / "new" / "deep" / "a.json", "benchmark", jobs.SAME_COMMAND):
        assert (tmp_path / "old" / "new" / "deep").is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert not any((tmp_path / "old").iterdir())
