"""What runs on a device, one request at a time: the standard library of Python 3.11 alone.

The text of this module goes to the device with each request, see :mod:`pneumo_edge.benchmarks.remote.connection`.
Everything that it leaves there lies in one folder:

* ``created.json``: marks the folder as ours, and names the folders above it that were made with it;
* ``environments/KEY``: a virtual environment; ``ready`` in it says that it is complete;
* ``files/SHA256``: wheels, models and images by their content;
* ``runs/KEY``: a benchmark: its input as links into ``files``, ``out``, ``log``, its exit code in ``ended``,
  ``driver``, the command that its results go to, and ``lock``, which the process that waits for the benchmark holds.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import gzip
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_CREATED, _ENVIRONMENTS, _FILES, _RUNS = "created.json", "environments", "files", "runs"
_POLL_SECONDS = 0.5
#: How long a benchmark has to end by itself.
_END_SECONDS = 10.0
#: Begins every line of an answer: the login shell of the device may print lines of its own.
_mark = ""


class _RefusedError(Exception):
    """An error for the user: what was given, what was expected, what to do."""


def _answer(kind: str, value: Any) -> None:
    sys.stdout.write(f"{_mark}{json.dumps([kind, value])}\n")
    sys.stdout.flush()


def _folder(given: str) -> Path:
    expanded = os.path.expanduser(given)  # noqa: PTH111 (Path raises where there is no home)
    if expanded.startswith("~"):
        raise _RefusedError(
            f"{given} is the home of a user that is not there", "the home of a user, or a path", "Correct the folder"
        )
    return Path(expanded).absolute()


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _open_folder(given: str) -> Path:
    """The folder for everything, which is made where there is none."""
    folder = _folder(given)
    if (folder / _CREATED).is_file():
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _RefusedError(
            f"{folder} is there and not from pneumo-edge", "a new or an empty folder", "Give another --device-folder"
        )
    new = [str(each) for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / _CREATED, json.dumps(new).encode())
    return folder


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def probe(argument: dict[str, Any]) -> dict[str, Any]:
    """What this machine is."""
    existing = _existing(_folder(argument["folder"]))
    libc, version = platform.libc_ver()
    if not libc and sys.platform == "linux" and "musl" in str(sysconfig.get_config_var("SOABI")):
        libc, version = "musl", "1.1"
    machine = platform.machine()
    if struct.calcsize("P") == 4:  # of a 32-bit system on a 64-bit core
        machine = {"aarch64": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return {
        "python": sys.executable,
        "version": platform.python_version(),
        "architecture": machine,
        "system": platform.system(),
        "libc": libc,
        "libc_version": version,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperatures": {
            f"{zone.name} {_read(zone / 'type')}".strip(): int(found) / 1000
            for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*"))
            if (found := _read(zone / "temp")).lstrip("-").isdigit()
        },
        "free_bytes": shutil.disk_usage(existing).free,
        "has_pip": all(map(importlib.util.find_spec, ("venv", "ensurepip", "pip"))),
        "markers": {
            "implementation_name": sys.implementation.name,
            "implementation_version": platform.python_version(),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_python_implementation": platform.python_implementation(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "python_full_version": platform.python_version(),
            "python_version": ".".join(platform.python_version_tuple()[:2]),
            "sys_platform": sys.platform,
        },
    }


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def missing(argument: dict[str, Any]) -> list[str]:
    """Which files, of those of the argument, are not here or are damaged, as by a loss of power."""
    files = _open_folder(argument["folder"]) / _FILES
    return [each for each in argument["files"] if _sha256(files / each) != each]


def _sha256(path: Path) -> str:
    """The SHA-256 of a file; "" where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def put(argument: dict[str, Any]) -> None:
    """Keep the files of the tar on standard input, each named by its SHA-256, once it is whole."""
    files = _open_folder(argument["folder"]) / _FILES
    files.mkdir(exist_ok=True)
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            source = archive.extractfile(member)
            assert source
            temporary = files / f".{member.name}.{os.getpid()}"
            try:
                with temporary.open("wb") as stream:
                    shutil.copyfileobj(source, stream, 2**20)
                if (found := _sha256(temporary)) != member.name:
                    raise _RefusedError(
                        f"{member.name} came with the content {found}", "the file that was sent", "Try again"
                    )
                temporary.replace(files / member.name)
            finally:
                temporary.unlink(missing_ok=True)


def is_ready(argument: dict[str, Any]) -> str:
    """The Python of an environment that is complete; "" where there is none.

    ``environment`` is the key of one of ours, or a folder with an environment of the user.
    """
    given = argument["environment"]
    if not any(separator in given for separator in "/~"):
        folder = _open_folder(argument["folder"]) / _ENVIRONMENTS / given
        python = folder / "bin" / "python"
        if not (folder / "ready").is_file():
            return ""
        if _import_error(python):
            # It was damaged, and is made again.
            (folder / "ready").unlink()
            return ""
        return str(python)
    python = _folder(given) / "bin" / "python"
    if not python.is_file():
        raise _RefusedError(f"{python} is not there", "the folder of a virtual environment", "Correct the environment")
    if error := _import_error(python):
        raise _RefusedError(
            f"{python} does not import pneumo-edge ({error})",
            "an environment with pneumo-edge[bench] and an engine",
            "Install it there, or omit the environment",
        )
    return str(python)


def _import_error(python: Path) -> str:
    """Why an environment cannot be used; "" where it can."""
    try:
        run = subprocess.run(
            [str(python), "-B", "-P", "-c", "import numpy, PIL.Image, psutil, cpuinfo, pneumo_edge"],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        return error.strerror or str(error)
    return (run.stderr.strip().splitlines() or ["no reason"])[-1] if run.returncode else ""


def install(argument: dict[str, Any]) -> dict[str, Any]:
    """Make an environment; one that another request is making is waited for.

    With ``index``, pip fetches from the index of this machine, and extras that it cannot install are named.
    """
    folder = _open_folder(argument["folder"])
    target = folder / _ENVIRONMENTS / argument["environment"]
    target.parent.mkdir(exist_ok=True)
    left_out: list[str] = []
    with _locked(target.with_name(f"{target.name}.lock")):
        if not (target / "ready").is_file():
            shutil.rmtree(target, ignore_errors=True)
            wheels = target / "wheels"
            index = argument["index"]
            _run(sys.executable, "-m", "venv", *([] if index else ["--without-pip"]), str(target))
            wheels.mkdir()
            for name, digest in argument["wheels"].items():
                _link(folder / _FILES / digest, wheels / name)
            python = str(target / "bin" / "python")
            own = str(wheels / argument["own"])
            extras = ["bench", *argument["extras"]]
            if index:
                _run(python, "-m", "pip", "install", "--no-input", f"{own}[bench]")
                for extra in extras[1:]:
                    try:
                        _run(python, "-m", "pip", "install", "--no-input", "--only-binary=:all:", f"{own}[{extra}]")
                    except _RefusedError:
                        left_out.append(extra)
            else:
                (pip,) = wheels.glob("pip-*.whl")
                options = "--no-index", "--no-input", "--find-links", str(wheels)
                wanted = [f"{own}[{','.join(extras)}]", *argument["others"]]
                _run(python, str(pip / "pip"), "install", *options, *wanted)
            shutil.rmtree(wheels)
            (target / "ready").touch()
        for digest in argument["wheels"].values():
            (folder / _FILES / digest).unlink(missing_ok=True)
    return {"python": str(target / "bin" / "python"), "left_out": left_out}


def _run(*command: str) -> None:
    run = subprocess.run(
        command, check=False, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # Outside of the folder nothing is to be left.
        env={**_environment(), "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    if run.returncode:
        if "No space left on device" in run.stdout:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), command[0])
        said = [line for line in run.stdout.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")]
        raise _RefusedError(
            f"{' '.join(command[:4])} failed ({' '.join((errors or said or ['no reason'])[-1].split())})",
            "an environment that can be made",
            "See the reason; another python or environment can be named in devices.toml",
        )


def _environment() -> dict[str, str]:
    dropped = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    return {
        name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("PNEUMO_EDGE_")
    }


def _link(source: Path, target: Path) -> None:
    """A file of the store under another name; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if not source.is_file() or error.errno == errno.ENOSPC:
            raise
        shutil.copyfile(source, target)


def start(argument: dict[str, Any]) -> str:
    """Start a benchmark (``"started"``, ``"resumed"``), or find it (``"running"``, ``"finished"``).

    Its results go to the command that asked last.
    """
    folder = _open_folder(argument["folder"])
    run = folder / _RUNS / argument["run"]
    run.mkdir(parents=True, exist_ok=True)
    _write(run / "driver", argument["driver"].encode())
    lock = (run / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    if _is_finished(run):
        return "finished"
    for other in run.parent.iterdir():
        if other != run and _is_held(other / "lock"):
            raise _RefusedError(
                f"benchmark {other.name} is running there",
                "one benchmark at a time, because two disturb each other",
                "Wait for it, or end it with --clean and without models",
            )
    for name in ("ended", "log"):
        (run / name).unlink(missing_ok=True)
    for name, digest in argument["files"].items():
        _link(folder / _FILES / digest, run / "input" / name)
    words = [argument["python"], "-m", "pneumo_edge", "benchmark", *argument["words"], "--out", str(run / "out")]
    is_resumed = (run / "out" / "results.json.partial").is_file()
    _detach(run, [*words, *(["--resume"] if is_resumed else [])], lock.fileno())
    return "resumed" if is_resumed else "started"


def _is_finished(run: Path) -> bool:
    if _read(run / "ended") not in ("0", "4"):
        return False
    try:
        json.loads((run / "out" / "results.json").read_bytes())
    except (OSError, ValueError):  # damaged since, as by a loss of power
        return False
    return True


def _own_run(argument: dict[str, Any]) -> Path:
    """The folder of a benchmark whose results still go to the command that asks."""
    run = _folder(argument["folder"]) / _RUNS / str(argument["run"])
    if _read(run / "driver") != argument["driver"]:
        raise _RefusedError(
            f"another command has continued or removed benchmark {argument['run']}",
            "one command for a benchmark",
            "Take the results from that one, or run this one again to continue it here",
        )
    return run


def _detach(run: Path, command: list[str], lock: int) -> None:
    """Run a command in a session of its own, so that it outlives the connection; its process holds the lock."""
    for name in ("temporary", "cache"):
        (run / name).mkdir(exist_ok=True)
    if os.fork():
        return
    code = 1
    try:
        os.setsid()
        (run / "process").write_text(str(os.getpid()))
        null = os.open(os.devnull, os.O_RDWR)
        log = os.open(run / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        for descriptor, number in ((null, 0), (null, 1), (log, 2)):
            os.dup2(descriptor, number)
        variables = {
            "TMPDIR": str(run / "temporary"),
            # Where libraries, matplotlib among them, write what they find out.
            "XDG_CACHE_HOME": str(run / "cache"),
            "XDG_CONFIG_HOME": str(run / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PNEUMO_EDGE_PROGRESS": "lines",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        }
        ended = subprocess.run(command, check=False, cwd=run / "input", env={**_environment(), **variables})
        _write(run / "ended", str(ended.returncode).encode())
        code = 0
    finally:
        # The lock goes with the process; nothing of the one that was forked may run twice.
        os._exit(code)


def follow(argument: dict[str, Any]) -> dict[str, Any]:
    """Answer with what a benchmark writes into its log, from an offset on, until it has ended.

    Returns:
        Its exit code; None where it was killed.
    """
    run = _own_run(argument)
    offset = argument["offset"]
    mine = str(os.getpid())
    # Of several of a command only the last continues: the connections of the others are lost.
    (run / "follower").write_text(mine)
    # At once, for who waits to hear that the connection is back.
    _answer("event", {"text": "", "offset": offset})
    while True:
        _own_run(argument)
        is_running = _is_held(run / "lock")
        with contextlib.suppress(FileNotFoundError), (run / "log").open("rb") as stream:
            stream.seek(offset)
            content = stream.read(2**16)
            whole = content[: content.rfind(b"\n") + 1] if is_running else content
            if whole:
                offset += len(whole)
                _answer("event", {"text": whole.decode(errors="replace"), "offset": offset})
                continue
        if not is_running:
            ended = _read(run / "ended")
            return {"code": int(ended) if ended else None}
        if _read(run / "follower") != mine:
            raise SystemExit
        time.sleep(_POLL_SECONDS)


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def fetch(argument: dict[str, Any]) -> str:
    """The raw results of a benchmark that has ended: packed by gzip, as base64."""
    run = _own_run(argument)
    return base64.b64encode(gzip.compress((run / "out" / "results.json").read_bytes())).decode()


def forget(argument: dict[str, Any]) -> None:
    """Remove a benchmark whose results have arrived; its files stay for the next one."""
    # Where another command has continued it, it is that one's to remove.
    with contextlib.suppress(_RefusedError):
        shutil.rmtree(_own_run(argument))


def clean(argument: dict[str, Any]) -> dict[str, Any]:
    """Remove everything, and say what: by path the bytes that it took, and the benchmarks that were stopped."""
    folder = _folder(argument["folder"])
    if not (folder / _CREATED).is_file():
        return {"removed": {}, "stopped": []}
    stopped = [run.name for run in sorted((folder / _RUNS).glob("*")) if _stop(run)]
    removed = {}
    for name in (_ENVIRONMENTS, _FILES, _RUNS):
        if (folder / name).exists():
            removed[str(folder / name)] = _size(folder / name)
            shutil.rmtree(folder / name)
    try:
        new = json.loads((folder / _CREATED).read_bytes())
    except ValueError:  # damaged, as by a loss of power; the folders above are not known
        new = [str(folder)]
    (folder / _CREATED).unlink()
    for each in new:
        try:
            Path(each).rmdir()
        except OSError:  # someone else put something there
            break
        removed.setdefault(each, 0)
    return {"removed": removed, "stopped": stopped}


def _size(folder: Path) -> int:
    inodes = {}
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = (Path(root) / name).lstat()
                inodes[status.st_ino] = status.st_size
    return sum(inodes.values())


def _stop(run: Path) -> bool:
    """End a benchmark that is running."""
    if not _is_held(run / "lock"):
        return False
    group = int(_read(run / "process") or 0)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(group, number)
        until = time.monotonic() + _END_SECONDS
        while _is_held(run / "lock") and time.monotonic() < until:
            time.sleep(0.1)
    return True


REQUESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    each.__name__: each for each in (probe, missing, put, is_ready, install, start, follow, fetch, forget, clean)
}


def main() -> None:
    """Carry out the request that is the next line of standard input."""
    global _mark
    request = json.loads(sys.stdin.buffer.readline())
    _mark = request["mark"]
    try:
        answer = REQUESTS[request["do"]](request["with"])
    except _RefusedError as error:
        _answer("error", error.args)
    except OSError as error:
        what = f" {error.filename}" if error.filename else ""
        remedy = {
            errno.ENOSPC: "Free some room there, or give another --device-folder",
            errno.EDQUOT: "Free some room there, or give another --device-folder",
            errno.EACCES: "Give a --device-folder that this user may write",
            errno.EROFS: "Give a --device-folder that this user may write",
        }.get(error.errno or 0, "Check the device")
        _answer("error", (f"cannot use{what}: {error.strerror or error}", "a folder that can be written", remedy))
    else:
        _answer("reply", answer)


if __name__ == "__main__":
    main()
