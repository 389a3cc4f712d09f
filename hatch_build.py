"""Refuses to build a package without converters and benchmarks, which are symbolic links in a checkout."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LinkedPackages(BuildHookInterface):  # type: ignore[type-arg]
    """Checks that the linked packages are folders; Git for Windows writes a link as a text file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """End the build with one sentence where a package is not there; an editable one says so when it runs."""
        for name in ("benchmarks", "converters"):
            if version != "editable" and not (Path(self.root) / "pneumo_edge" / name / "__init__.py").is_file():
                self.app.abort(
                    f"error: pneumo_edge/{name} is not a package in this checkout; it must be a symbolic link to the "
                    f"folder {name}. Allow symbolic links (on Windows: developer mode), run `git config core.symlinks "
                    "true` and `git checkout -- pneumo_edge`, then build again."
                )
