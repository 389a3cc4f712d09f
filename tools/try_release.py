"""Tries what ``make release`` built: the wheel in a bare environment, the source distribution by its own tests.

``python -m tools.try_release DIST`` takes the folder with the one wheel and the one source distribution.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path


def main() -> None:
    """Try the files in the folder that the command line names."""
    dist = Path(sys.argv[1]).resolve()
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        _try_wheel(wheel, Path(name))
        _try_source(source, Path(name))


def _try_wheel(wheel: Path, folder: Path) -> None:
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    _run([environment / "bin" / "python", "-m", "pip", "install", "--quiet", f"{wheel}[litert]"], folder)
    image = "from PIL import Image; Image.effect_noise((400, 300), 60).save('x-ray.jpeg')"
    _run([environment / "bin" / "python", "-c", image], folder)
    _run([environment / "bin" / "pneumo-edge", "predict", "x-ray.jpeg"], folder)


def _try_source(source: Path, folder: Path) -> None:
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.glob("pneumo_edge-*")
    # The libraries of this environment, and the code of the archive.
    _run([sys.executable, "-m", "pytest", "-q", "-m", "not slow"], root, PYTHONPATH=str(root))


def _run(command: list[str | Path], folder: Path, **environment: str) -> None:
    print("$", *command, flush=True)
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}")


if __name__ == "__main__":
    main()
