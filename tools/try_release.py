"""Tries what ``make release`` built: the wheel in bare environments, the source distribution by its own tests.

``python -m tools.try_release DIST [OPTION ...]`` takes the folder with the one wheel and the one source distribution,
and options of pytest. The wheel is tried with every supported Python that is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SUPPORTED = ("3.11", "3.12", "3.13")


def main() -> None:
    """Try the files in the folder that the command line names."""
    dist, options = Path(sys.argv[1]).resolve(), sys.argv[2:]
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        for python in _interpreters():
            _try_wheel(wheel, python, Path(name))
        _try_source(source, options, Path(name))


def _interpreters() -> Iterator[str]:
    """This one, and one of each other supported version that has what an environment is made with."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield sys.executable
    for version in _SUPPORTED:
        python = shutil.which(f"python{version}")
        if version == own:
            continue
        # pyenv has a command for versions that do not run here, too.
        if python and _succeeds([python, "-c", "import ensurepip"]):
            yield python
        else:
            print(f"not tried: Python {version}, which is not installed here", flush=True)


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _try_wheel(wheel: Path, python: str, folder: Path) -> None:
    environment = folder / "venv"
    _run([python, "-m", "venv", "--clear", environment], folder)
    _run([environment / "bin" / "python", "-m", "pip", "install", "--quiet", f"{wheel}[litert]"], folder)
    image = "from PIL import Image; Image.effect_noise((400, 300), 60).save('x-ray.jpeg')"
    _run([environment / "bin" / "python", "-c", image], folder)
    _run([environment / "bin" / "pneumo-edge", "predict", "x-ray.jpeg"], folder)


def _try_source(source: Path, options: list[str], folder: Path) -> None:
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.glob("pneumo_edge-*")
    # The libraries of this environment, and the code of the archive.
    _run([sys.executable, "-m", "pytest", "-q", "-m", "not slow", *options], root, PYTHONPATH=str(root))


def _run(command: list[str | Path], folder: Path, **environment: str) -> None:
    print("$", *command, flush=True)
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}")


if __name__ == "__main__":
    main()
