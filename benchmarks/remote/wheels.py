"""The wheels for a device: this pneumo-edge's own, made here, and those of the libraries that it needs there."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pneumo_edge
from pneumo_edge._util import extras, files
from pneumo_edge._util.records import AtLeastOne, Count
from pneumo_edge.errors import DeviceError
from pneumo_edge.runtime.engines import EngineInfo

_NAME = "pneumo-edge"
#: The time in every entry of our wheel, so that its content alone sets its hash.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: pneumo-edge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
#: The oldest glibc of a manylinux wheel that Python 3.11 has.
_OLDEST_GLIBC = 5
#: pip itself evaluates markers for the Python that runs it, also with --platform and --python-version.
_PIP = """
import json, sys
from pip._vendor.packaging import markers
there, own = json.loads(sys.argv.pop(1)), markers.default_environment
markers.default_environment = lambda: {**own(), **there}
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Probe:
    """What a device is; ``temperatures`` in degrees Celsius by sensor, ``markers`` as of PEP 508."""

    python: str
    version: str
    architecture: str
    system: str
    libc: str
    libc_version: str
    cores: AtLeastOne
    governor: str
    temperatures: dict[str, float]
    free_bytes: Count
    has_pip: bool
    markers: dict[str, str]

    @property
    def brief(self) -> str:
        """It in a line."""
        parts = [
            self.architecture,
            f"{self.cores} core{'s' * (self.cores > 1)}",
            f"Python {self.version}",
            f"governor {self.governor or 'not known'}",
            ", ".join(f"{name} {value:.0f} C" for name, value in self.temperatures.items()) or "no temperature sensor",
            f"{self.free_bytes / 1e9:.1f} GB free",
        ]
        return ", ".join(parts)

    @property
    def platforms(self) -> list[str]:
        """The platform tags of wheels that it takes, the newest first; none where they are not known."""
        numbers = [int(number) for number in re.findall(r"\d+", self.libc_version)[:2]]
        if self.system != "Linux" or len(numbers) < 2:
            return []
        if self.libc == "musl":
            return [f"musllinux_{numbers[0]}_{minor}_{self.architecture}" for minor in range(numbers[1], -1, -1)]
        tags = [f"manylinux_2_{minor}" for minor in range(numbers[1], _OLDEST_GLIBC - 1, -1)]
        tags += [name for name, minor in (("manylinux2014", 17), ("manylinux2010", 12)) if numbers[1] >= minor]
        return [f"{tag}_{self.architecture}" for tag in [*tags, "linux"]]


@dataclass(frozen=True)
class Wanted:
    """What an environment has: extras of pneumo-edge, and distributions of other packages' engines."""

    extras: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, engines: Iterable[EngineInfo], probe: Probe) -> Wanted:
        """What engines need on a device."""
        python = tuple(int(number) for number in probe.markers["python_version"].split("."))
        rows = [row for row in engines if row.newest_python is None or python <= row.newest_python]
        return cls(
            tuple(row.extra for row in rows if row.extra),
            tuple(f"{row.package}=={row.version}" for row in rows if row.package),
        )

    def key(self, own: Path, probe: Probe, how: str) -> str:
        """The name of the environment: it is another where any of this differs."""
        there = probe.python, probe.version, probe.architecture, probe.libc, probe.libc_version
        parts = [files.sha256(own), self.extras, self.others, there, how, _pins()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def make_own(folder: Path) -> Path:
    """Write the wheel of the pneumo-edge that runs, installed or in a checkout; the same content gives the same bytes.

    Args:
        folder: Where it is written.
    """
    distribution = metadata.distribution(_NAME)
    package = Path(pneumo_edge.__file__).parent
    stem = f"pneumo_edge-{distribution.version}"
    content: dict[str, bytes] = {}
    for root, folders, names in os.walk(package, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(root) / name
            content[path.relative_to(package.parent).as_posix()] = path.read_bytes()
    inside = f"{stem}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        content[f"{inside}/{name}"] = (distribution.read_text(name) or "").encode()
    content[f"{inside}/WHEEL"] = _WHEEL.encode()
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in content.items()]
    content[f"{inside}/RECORD"] = "\n".join([*lines, f"{inside}/RECORD,,", ""]).encode()
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def download(own: Path, wanted: Wanted, probe: Probe, name: str, *, may_lack: bool) -> tuple[list[Path], Wanted]:
    """Download wheels for a device into the folder of our own wheel, of the versions that are installed here.

    Where the device has no wheels of these versions, newer or older ones are taken.

    Args:
        own: Our own wheel.
        wanted: What the environment is to have.
        probe: The device.
        name: Its name, for messages.
        may_lack: Whether an engine without wheels for the device is left out.

    Returns:
        All wheels, and what the environment can have.

    Raises:
        DeviceError: There are no wheels for the device, or the package index is not reached.
    """
    if not extras.is_installed("pip"):
        raise DeviceError(
            "pip is not installed here, so no wheels can be downloaded",
            "pip, or a device that reaches a package index itself",
            'Install pip, or give environment = "pip" in devices.toml',
        )
    if not probe.platforms:
        raise DeviceError(
            f"{name} is {probe.system} with {probe.libc or 'an unknown C library'}",
            "Linux with glibc or musl, whose wheels are known",
            'Give environment = "pip" in devices.toml, or the folder of an environment',
        )
    choices = [wanted]
    said = _download(own, wanted, probe)
    if said and may_lack:
        found = [extra for extra in wanted.extras if not _download(own, Wanted((extra,), ()), probe)]
        choices = [Wanted(tuple(found), wanted.others)] if found else []
        said = _download(own, choices[0], probe) if found else said
    if said:
        missing = re.search(r"No matching distribution found for (\S+)", said)
        what = f"no wheels of {missing[1]} for {probe.architecture}" if missing else said.strip().splitlines()[-1]
        raise DeviceError(
            f"the environment of {name} cannot be made: {what}, Python {probe.version}",
            f"wheels for {probe.architecture}, {probe.libc} {probe.libc_version}, from the package index of pip",
            'Give another --engine, or environment = "pip" in devices.toml where the device has an index of its own',
        )
    return sorted(own.parent.glob("*.whl")), choices[0]


def _download(own: Path, wanted: Wanted, probe: Probe) -> str:
    """Download what an environment needs; returns what pip says of the failure, "" where there is none."""
    said = ""
    for pins in (_pins(), ()):
        said = _pip_download(own, wanted, probe, pins)
        if not said:
            return ""
    return said


def _pip_download(own: Path, wanted: Wanted, probe: Probe, pins: Sequence[str]) -> str:
    constraints = own.with_name("constraints.txt")
    constraints.write_text("\n".join(pins), encoding="utf-8")
    command = [
        sys.executable, "-c", _PIP, json.dumps(probe.markers), "download", "--quiet", "--no-input",
        "--disable-pip-version-check", "--only-binary=:all:", "--dest", str(own.parent),
        "--python-version", probe.markers["python_version"], "--implementation", "cp",
        "--constraint", str(constraints),
    ]  # fmt: skip
    command += [word for tag in probe.platforms for word in ("--platform", tag)]
    command += [f"{own}[{','.join(['bench', *wanted.extras])}]", *wanted.others, "pip"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return "" if run.returncode == 0 else run.stderr or f"pip ended with {run.returncode}"


def _pins() -> tuple[str, ...]:
    """The versions of all that is installed here."""
    found = {each.metadata["Name"]: each.version for each in metadata.distributions() if each.metadata["Name"]}
    return tuple(sorted(f"{name}=={version}" for name, version in found.items() if name not in (_NAME, "pip")))
