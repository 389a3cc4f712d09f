"""The WebAssembly runtimes of the site: npm packages of fixed versions, and which of their files a site needs.

``package.json`` beside this file names the packages, and ``package-lock.json`` their versions and hashes. npm fetches
them into the cache when a site is built, and checks the hashes. No package's script is run, and a visitor of the site
loads nothing from another address.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import files
from pneumo_edge._util.cache import cache_folder, writing
from pneumo_edge.errors import InstallationError
from pneumo_edge.spec import ONNX, TFLITE

_PACKAGE, _LOCK = (Path(__file__).with_name(name) for name in ("package.json", "package-lock.json"))
#: The packages of an installation lie in a folder of this name.
_MODULES = "node_modules"
#: npm waits for a network that does not answer for minutes.
_SECONDS = 900
_INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
_OFFLINE = "Give --runtime FOLDER with the node_modules of `npm ci` from another machine"


@dataclass(frozen=True)
class Runtime:
    """An inference library for the browser.

    Attributes:
        name: Its name in ``models.json``.
        suffix: The model files that it runs.
        dtypes: The types of an input that it takes.
        files: Each file of the site and where it lies in ``node_modules``.
        replaced: In a file of the site, a text that occurs once, and what stands there instead.
    """

    name: str
    suffix: str
    dtypes: tuple[str, ...]
    files: dict[str, str]
    replaced: dict[str, tuple[str, str]]


RUNTIMES = {
    row.suffix: row
    for row in (
        Runtime(
            "litert",
            TFLITE.suffix,
            ("float32", "uint8"),
            {
                "litert/index.js": "@litertjs/core/dist/index.js",
                "litert/wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
                **{
                    f"litert/wasm/{name}": f"@litertjs/core/wasm/{name}"
                    for kind in ("", "compat_", "threaded_")
                    for name in (f"litert_wasm_{kind}internal.js", f"litert_wasm_{kind}internal.wasm")
                },
            },
            # A worker has no import maps.
            {"litert/index.js": ('from "@litertjs/wasm-utils"', 'from "./wasm-utils.js"')},
        ),
        Runtime(
            "onnxruntime",
            ONNX.suffix,
            ("float32", "uint8", "int8"),
            {
                # Not every server knows the type of .mjs.
                "onnxruntime/ort.js": "onnxruntime-web/dist/ort.wasm.min.mjs",
                "onnxruntime/ort-wasm.js": "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
                "onnxruntime/ort-wasm.wasm": "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
            },
            {},
        ),
    )
}
#: Every site has it.
DICOM = {"dicom/dicom-parser.js": "dicom-parser/dist/dicomParser.min.js"}


def find(given: Path | None) -> Path:
    """The folder ``node_modules`` with the packages of ``package-lock.json``.

    Args:
        given: A folder that has them, or has a folder ``node_modules`` with them; None for that in the cache, which npm
            fills where it is not there.

    Raises:
        InstallationError: A package is missing or of another version; or there is no npm, or it failed.
    """
    if given is None:
        return _fetched()
    folder = given / _MODULES if (given / _MODULES).is_dir() else given
    for name, version in _versions().items():
        try:
            found = json.loads((folder / name / "package.json").read_bytes())["version"]
        except (OSError, ValueError, LookupError, TypeError):
            found = None
        if found != version:
            raise InstallationError(
                f"{given} has {f'{name} {found}' if found else f'no package {name}'}", f"{name} {version}",
                f"Run `npm ci` beside a copy of {_LOCK}, and give the folder {_MODULES}",
            )  # fmt: skip
    return folder


def _versions() -> dict[str, str]:
    """The version of each package that a site takes files of."""
    packages = json.loads(_LOCK.read_bytes())["packages"]
    sources = [source for row in RUNTIMES.values() for source in row.files.values()]
    return {name: packages[f"{_MODULES}/{name}"]["version"] for name in _packages([*sources, *DICOM.values()])}


def _packages(sources: Iterable[str]) -> list[str]:
    """The names of the packages that files lie in; those of a scope have two parts."""
    return sorted({"/".join(source.split("/")[: 2 if source[0] == "@" else 1]) for source in sources})


def _fetched() -> Path:
    """The packages in the cache; fetched where they are not there."""
    folder = cache_folder() / "web" / files.sha256(_LOCK)[:16]
    if (folder / _MODULES).is_dir():
        return folder / _MODULES
    npm = shutil.which("npm")
    if npm is None:
        raise InstallationError("npm is not installed", "npm, which fetches the WebAssembly runtimes", _OFFLINE)
    with writing(cache_folder()), files.whole_folder(folder) as temporary:
        for path in (_PACKAGE, _LOCK):
            shutil.copy(path, temporary)
        _run([npm, *_INSTALL], temporary)
    return folder / _MODULES


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        printed = (getattr(error, "stderr", None) or b"").decode(errors="replace").split("\n")
        reason = next((line for line in printed if line.strip()), str(error))
        raise InstallationError(
            f"npm could not fetch the WebAssembly runtimes ({reason.strip()})", "an npm registry that answers", _OFFLINE
        ) from error


def copy(modules: Path, kinds: set[str], target: Path) -> None:
    """Copy the files of runtimes to a site.

    Args:
        modules: From :func:`find`.
        kinds: Suffixes of the model files of the site.
        target: The folder for them.

    Raises:
        InstallationError: A package lacks a file.
    """
    rows = [RUNTIMES[kind] for kind in sorted(kinds)]
    wanted = DICOM | {name: source for row in rows for name, source in row.files.items()}
    replaced = {name: texts for row in rows for name, texts in row.replaced.items()}
    for name, source in wanted.items():
        try:
            content = (modules / source).read_bytes()
        except OSError as error:
            raise _unlike_the_lock(source) from error
        if name in replaced:
            before, after = (text.encode() for text in replaced[name])
            if content.count(before) != 1:
                raise _unlike_the_lock(source)
            content = content.replace(before, after)
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_without_source_map(content) if path.suffix == ".js" else content)
    (target / "NOTICE.txt").write_text(_notice(modules, wanted.values()), encoding="utf-8")


def _notice(modules: Path, sources: Iterable[str]) -> str:
    """Who made the files, and under which licences: a site passes them on."""
    parts = []
    for name in _packages(sources):
        package = json.loads((modules / name / "package.json").read_bytes())
        parts.append(f"{name} {package['version']}, licence {package['license']}\n")
        with contextlib.suppress(FileNotFoundError):
            parts.append(f"\n{(modules / name / 'LICENSE').read_text(encoding='utf-8').strip()}\n")
    return "\n".join(parts)


def _without_source_map(script: bytes) -> bytes:
    """A script without its last line where that names a source map, which a site does not have."""
    head, _, last = script.rstrip().rpartition(b"\n")
    return head + b"\n" if last.startswith(b"//# sourceMappingURL=") else script


def _unlike_the_lock(source: str) -> InstallationError:
    return InstallationError(
        f"{_MODULES}/{source} is missing or not that of {_LOCK.name}", "the packages as npm installs them",
        "Delete the folder and build the site again",
    )  # fmt: skip
