from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pneumo_edge._util import native_output


def test_what_goes_past_python_is_silenced_and_only_there(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with native_output.quiet_stderr():
        os.write(2, b"chatter ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_an_error_gives_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), native_output.quiet_stderr():
        raise ValueError("x")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_threads_give_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    def chatter() -> None:
        for _ in range(50):
            with native_output.quiet_stderr():
                os.write(2, b"chatter")

    threads = [threading.Thread(target=chatter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_a_closed_stderr_stays_closed() -> None:
    program = (
        "import os\n"
        "from pneumo_edge._util import native_output as native\n"
        "os.close(2)\n"
        "with native.quiet_stderr():\n"
        "    print('inside')\n"
        "try:\n"
        "    os.fstat(2)\n"
        "except OSError:\n"
        "    print('closed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["inside", "closed"]


def test_what_is_to_be_heard_is_heard_whatever_other_threads_silence(capfd: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            with native_output.quiet_stderr():
                os.write(2, b"chatter")

    threads = [threading.Thread(target=chatter) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            with native_output.stderr_is_heard():
                os.write(2, b"!")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert capfd.readouterr().err == "!" * 50
