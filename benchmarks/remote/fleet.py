"""Which devices there are: named on the command line, or in a ``devices.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from pneumo_edge.errors import ArgumentError, printable

#: Where everything lies on a device.
FOLDER = "~/.cache/pneumo-edge/device"
#: The table that is read where no other is named.
TABLE = "devices.toml"
#: How an environment comes to a device: from wheels that are downloaded here, or by its own pip from its own index.
WHEELS, INDEX = "wheels", "pip"
_HOST = re.compile(
    r"(?P<destination>([^\s@:/-][^\s@:/]*@)?(\[[0-9A-Fa-f:.%\w]+\]|[^\s@:/\[\]-][^\s@:/\[\]]*))(:(?P<port>\d{1,5}))?"
)
#: Begins the host of a phone; its serial number follows, or nothing where it is the only one.
_PHONE = "adb:"
_SERIAL, _PHONE_FOLDER = re.compile(r"[\w.:-]*"), re.compile(r"/[\w./-]+")
_EXPECTED = "USER@HOST, USER@HOST:PORT, the name of a host in the configuration of OpenSSH, or adb:SERIAL"


@dataclass(frozen=True)
class Device:
    """A device that OpenSSH reaches, or a phone that adb reaches.

    Attributes:
        name: Its name in results and messages.
        host: As the user gave it: ``USER@HOST:PORT``, without user and port where OpenSSH's configuration has them; or
            ``adb:SERIAL`` of a phone.
        folder: The folder on it for everything that is put there; ``~`` is the user's home on the device.
        python: Its Python, 3.11 or newer; "" to look for one.
        environment: :data:`WHEELS`, :data:`INDEX`, or the folder of a virtual environment on it with pneumo-edge.
        benchmark_model: The path here of ``benchmark_model`` for a phone; "" for the one on the command line.

    Raises:
        ArgumentError: The host is none, or a text is empty or has several lines.
    """

    name: str
    host: str
    folder: str = FOLDER
    python: str = ""
    environment: str = WHEELS
    benchmark_model: str = ""

    def __post_init__(self) -> None:
        if self.is_phone:
            if not _SERIAL.fullmatch(self.serial) or not (
                self.folder == FOLDER or _PHONE_FOLDER.fullmatch(self.folder)
            ):
                raise ArgumentError(
                    f"the phone {self.name!r} has the host {self.host!r} and the folder {self.folder!r}",
                    "adb:SERIAL, and a folder from / on without spaces",
                    "Correct it",
                )
        elif not _HOST.fullmatch(self.host) or int(self._match["port"] or 1) not in range(1, 2**16):
            raise ArgumentError(f"the host of a device is {self.host!r}", _EXPECTED, "Correct it")
        for name in ("name", "folder", "environment"):
            if not (value := getattr(self, name)) or printable(value) != value:
                raise ArgumentError(f"the {name} of the device {self.name!r} is {value!r}", "a text", "Correct it")
        if self.environment not in (WHEELS, INDEX) and self.environment[0] not in "/~":
            raise ArgumentError(
                f"the environment of the device {self.name} is {self.environment!r}",
                f"{WHEELS}, {INDEX}, or the folder of a virtual environment on the device, from / or ~ on",
                "Correct it",
            )

    @property
    def is_phone(self) -> bool:
        """Whether adb reaches it."""
        return self.host.startswith(_PHONE)

    @property
    def serial(self) -> str:
        """The serial number of a phone; "" for the only one."""
        return self.host.removeprefix(_PHONE)

    @property
    def destination(self) -> str:
        """What OpenSSH takes for the host; of a phone, its host."""
        return self.host if self.is_phone else self._match["destination"].replace("[", "").replace("]", "")

    @property
    def port(self) -> int | None:
        """The port, where one was given."""
        return int(self._match["port"]) if not self.is_phone and self._match["port"] else None

    @property
    def file_name(self) -> str:
        """Its name, as the name of a folder."""
        return re.sub(r"[^\w.@-]", "_", self.name).lstrip(".") or "_"

    @property
    def _match(self) -> re.Match[str]:
        found = _HOST.fullmatch(self.host)
        assert found
        return found


def read(path: Path) -> dict[str, Device]:
    """Read a table of devices: a section for each, with ``host`` and, where they differ, the other fields.

    Raises:
        ArgumentError: The file cannot be read, a section has another field, or the value of a field is none.
    """
    expected = 'a section for each device: [NAME] and host = "USER@HOST"'
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({error.strerror})", expected, "Give another --devices") from error
    except ValueError as error:
        raise ArgumentError(f"{path} is not TOML ({error})", expected, "Correct it") from error
    known = [each.name for each in fields(Device) if each.name != "name"]
    found = {}
    for name, section in table.items():
        if not isinstance(section, dict) or not isinstance(section.get("host"), str):
            raise ArgumentError(f"{path} has no host for {name!r}", expected, "Add its host")
        for key, value in section.items():
            if key not in known or not isinstance(value, str):
                raise ArgumentError(
                    f"{path} has {key} = {value!r} for {name!r}", f"texts for {', '.join(known)}", "Correct it"
                )
        found[name] = Device(name, **section)
    return found


def choose(names: Iterable[str], table: dict[str, Device]) -> list[Device]:
    """The devices of these names; a name that is not in the table is a host. Without names, all of the table.

    Raises:
        ArgumentError: A name is no host, or two devices have the same folder of results or the same host.
    """
    chosen = [table.get(name) or Device(name, name) for name in dict.fromkeys(names)] or list(table.values())
    by_file: dict[str, Device] = {}
    by_host: dict[tuple[str, int | None], Device] = {}
    for device in chosen:
        if (other := by_file.setdefault(device.file_name, device)) is not device:
            raise ArgumentError(
                f"the devices {other.name!r} and {device.name!r} would have the same folder of results",
                "names that differ in letters and digits",
                "Rename one",
            )
        if (other := by_host.setdefault((device.destination, device.port), device)) is not device:
            raise ArgumentError(
                f"the devices {other.name!r} and {device.name!r} are the same host",
                "each host once, because two benchmarks disturb each other",
                "Leave one out",
            )
    return chosen
