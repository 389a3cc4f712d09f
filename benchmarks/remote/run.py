"""Measures on a device: an environment, models and images go there, the benchmark runs there, its results come back."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from pneumo_edge._util import files, records, scratch
from pneumo_edge._util.document import count
from pneumo_edge.benchmarks import results
from pneumo_edge.benchmarks.remote import wheels
from pneumo_edge.benchmarks.remote.connection import Connection
from pneumo_edge.benchmarks.remote.fleet import INDEX, WHEELS, Device
from pneumo_edge.benchmarks.remote.wheels import Probe, Wanted
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.data import carried
from pneumo_edge.data.samples import Source
from pneumo_edge.errors import DeviceError, ResultsError, printable
from pneumo_edge.runtime.engines import EngineInfo

Tell = Callable[[str], None]
#: Bytes that an environment takes beside what its wheels unpack to, and how often their bytes that is.
_ROOM, _UNPACKED = 100 * 2**20, 4
#: How often a benchmark that was killed on the device is resumed.
_RESTARTS = 3


@dataclass(frozen=True)
class Content:
    """A file for a device: its SHA-256, its bytes, and how they are read."""

    sha256: str
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Order:
    """A benchmark to run on devices.

    Attributes:
        words: The options of ``pneumo-edge benchmark``, without those that depend on the machine, and its models by
            their path in ``contents``.
        contents: The files that it reads, by path.
        engines: The engines to install.
        may_lack: Whether an engine that cannot be installed on a device is left out.
    """

    words: tuple[str, ...]
    contents: Mapping[str, Content]
    engines: tuple[EngineInfo, ...]
    may_lack: bool

    @classmethod
    def of(
        cls,
        models: Sequence[Path],
        source: Source | None,
        options: Sequence[str],
        engines: Sequence[EngineInfo],
        *,
        may_lack: bool,
    ) -> Order:
        """Collect what a benchmark reads.

        Args:
            models: The model files.
            source: The data set, whose test images are taken; None where there is none.
            options: The options of the benchmark.
            engines: The engines to measure on.
            may_lack: As for the class.

        Raises:
            OSError: A model file cannot be read.
        """
        common = os.path.commonpath([path.absolute().parent for path in models])
        contents: dict[str, Content] = {}
        names = []
        for path in models:
            # Models of one name are told apart by their path, as they are here.
            name = f"models/{Path(os.path.relpath(path, common)).as_posix()}"
            names.append(name)
            contents[name] = Content(files.sha256(path), path.stat().st_size, path.read_bytes)
        words = [*names, *options]
        if source:
            record, images = carried.carry(source, [each for each in source.samples if each.split == "test"])
            contents[f"data/{carried.NAME}"] = _of_bytes(record)
            for name, (sample, digest, size) in images.items():
                contents[f"data/{name}"] = Content(digest, size, partial(source.read, sample))
            words += ["--data", "data"]
        return cls(tuple(words), contents, tuple(engines), may_lack)


def _of_bytes(content: bytes) -> Content:
    return Content(hashlib.sha256(content).hexdigest(), len(content), lambda: content)


def _of_file(path: Path) -> Content:
    return Content(files.sha256(path), path.stat().st_size, path.read_bytes)


class RemoteBenchmark:
    """One benchmark on one device.

    Args:
        device: The device.
        order: The benchmark.
        patience_s: For how many seconds a lost connection is made again.
        tell: Called with lines for the user.
        stop: Ends it here, as soon as it is set; what runs on the device continues.
    """

    def __init__(
        self, device: Device, order: Order, patience_s: float, tell: Tell, stop: threading.Event | None = None
    ) -> None:
        self._device, self._order, self._tell = device, order, tell
        self._connection = Connection(device, patience_s, tell, stop or threading.Event())
        self._run = ""
        #: Tells this command from others that continue the same benchmark.
        self._driver = uuid.uuid4().hex

    def measure(self, folder: Path) -> Results:
        """Measure, or find the benchmark that an earlier command started, and return its results.

        Args:
            folder: Where the results are put together.

        Raises:
            DeviceError: The device cannot be reached or used, or the benchmark was killed there again and again.
            ResultsError: The benchmark failed there.
        """
        probe = records.loads(Probe, json.dumps(self._connection.probe()))
        self._tell(probe.brief)
        python = self._environment(probe)
        contents = self._order.contents
        parts = [self._order.words, python, sorted((name, content.sha256) for name, content in contents.items())]
        self._run = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        self._send(contents.values(), "models and images", probe)
        self._finish(python)
        packed = self._request("fetch", run=self._run, driver=self._driver)
        return self._received(gzip.decompress(base64.b64decode(packed)), folder)

    def forget(self) -> None:
        """Remove the benchmark from the device, once its results are saved here; its files stay for the next one."""
        self._request("forget", run=self._run, driver=self._driver)

    def _request(self, do: str, **argument: Any) -> Any:
        return self._connection.keep_trying(lambda: self._connection.request(do, **argument))

    def _environment(self, probe: Probe) -> str:
        """The Python of the environment, which is made where there is none."""
        if self._device.environment not in (WHEELS, INDEX):
            return str(self._request("is_ready", environment=self._device.environment))
        with scratch.folder() as place:
            own = wheels.make_own(place)
            wanted = Wanted.of(self._order.engines, probe)
            key = wanted.key(own, probe, self._device.environment)
            if python := self._request("is_ready", environment=key):
                self._tell(f"environment {key} is there")
                return str(python)
            index = self._device.environment == INDEX
            if index and not probe.has_pip:
                raise DeviceError(
                    f"{self._device.name} has no pip, or no venv with it",
                    "Python with pip and ensurepip (Debian: python3-pip and python3-venv)",
                    f'Install them there, or give environment = "{WHEELS}"',
                )
            everything = [own]
            if not index:
                self._tell(f"downloading wheels for {probe.architecture}, Python {probe.version}")
                may_lack = self._order.may_lack
                everything, found = wheels.download(own, wanted, probe, self._device.name, may_lack=may_lack)
                self._lacking(set(wanted.extras) - set(found.extras))
                wanted = found
            contents = {path.name: _of_file(path) for path in everything}
            unpacked = _ROOM + _UNPACKED * sum(content.size for content in contents.values())
            self._send(contents.values(), count(len(contents), "wheel"), probe, unpacked)
            self._tell(f"making environment {key} in {self._device.folder}")
            answer = self._request(
                "install",
                environment=key,
                wheels={name: content.sha256 for name, content in contents.items()},
                own=own.name,
                extras=wanted.extras,
                others=wanted.others,
                index=index,
            )
        self._lacking(set(answer["left_out"]))
        return str(answer["python"])

    def _lacking(self, extras: set[str]) -> None:
        for row in self._order.engines:
            if row.extra in extras:
                self._tell(f"skipped: {row.name}: there are no wheels for this device")

    def _send(self, contents: Any, what: str, probe: Probe, room: int = 0) -> None:
        """Send the files that the device lacks, each once; after a lost connection, those that it lacks then."""
        by_hash = {content.sha256: content for content in contents}

        def send() -> None:
            lacking = [by_hash[each] for each in self._connection.request("missing", files=list(by_hash))]
            size = sum(content.size for content in lacking)
            if size + room > probe.free_bytes:
                raise DeviceError(
                    f"{self._device.name} has {probe.free_bytes / 1e6:,.0f} MB free in {self._device.folder}",
                    f"{(size + room) / 1e6:,.0f} MB for {what}",
                    "Free some room there, or give another --device-folder",
                )
            if lacking:
                self._tell(f"sending {what} ({size / 1e6:,.1f} MB)")
                self._connection.request("put", payload=partial(_write_tar, lacking))

        self._connection.keep_trying(send)

    def _finish(self, python: str) -> None:
        """Start the benchmark, or find it, and follow it to its end."""
        for _ in range(_RESTARTS):
            state = self._request(
                "start",
                run=self._run,
                driver=self._driver,
                python=python,
                words=self._order.words,
                files={name: content.sha256 for name, content in self._order.contents.items()},
            )
            self._tell(f"benchmark {self._run} {'is ' if state in ('running', 'finished') else ''}{state} there")
            code, last = self._follow()
            if code is None or code < 0:
                self._tell("the benchmark was killed there")
                continue
            if code in (0, 4):
                return
            given, expected, remedy = _parts(last) or (
                last.removeprefix("error: ").rstrip(".") or f"exit code {code}",
                "a benchmark that ends",
                "Correct that, and run the same command again",
            )
            raise ResultsError(f"{self._device.name}: {given}", expected, remedy)
        raise DeviceError(
            f"the benchmark was killed {_RESTARTS} times on {self._device.name}",
            "a device that lets it run",
            "Check its memory, and that it lets processes run on after a logout (loginctl enable-linger)",
        )

    def _follow(self) -> tuple[int | None, str]:
        """Print what the benchmark says until it ends; returns its exit code and its last line."""
        offset, last = 0, ""

        def seen(event: Any) -> None:
            nonlocal offset, last
            offset = int(event["offset"])
            for line in str(event["text"]).splitlines():
                last = printable(line.strip()) or last
                self._tell(line)

        def follow() -> Any:
            return self._connection.request("follow", seen=seen, run=self._run, driver=self._driver, offset=offset)

        code = self._connection.keep_trying(follow)["code"]
        return code, last

    def _received(self, content: bytes, folder: Path) -> Results:
        path = folder / f"received-{self._run}.json"
        try:
            path.write_bytes(content)
            found = results.read(path)
        finally:
            path.unlink(missing_ok=True)
        return replace(found, machine=replace(found.machine, device=self._device.name))


def clean(device: Device, patience_s: float, tell: Tell, stop: threading.Event | None = None) -> None:
    """Remove everything that benchmarks put on a device, and say what.

    Raises:
        DeviceError: The device cannot be reached or used.
    """
    connection = Connection(device, patience_s, tell, stop or threading.Event())
    connection.probe()
    found = connection.keep_trying(lambda: connection.request("clean"))
    for run in found["stopped"]:
        tell(f"stopped benchmark {run}")
    for path, size in found["removed"].items():
        tell(f"removed {path}" + (f" ({size / 1e6:,.1f} MB)" if size else ""))
    if not found["removed"]:
        tell(f"nothing to remove in {device.folder}")


def _parts(line: str) -> tuple[str, str, str] | None:
    """The three parts of an error that the command printed there; None where the line is none."""
    found = re.fullmatch(r"error: (.+); expected (.+?)\. (.+)\.", line)
    return (found[1], found[2], found[3]) if found else None


def _write_tar(contents: Sequence[Content], stream: IO[bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for content in contents:
            member = tarfile.TarInfo(content.sha256)
            member.size = content.size
            archive.addfile(member, io.BytesIO(content.read()))
