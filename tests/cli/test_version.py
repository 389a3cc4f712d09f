from __future__ import annotations

from importlib.metadata import version

from typer.testing import CliRunner

from pneumo_edge.cli import app


def test_the_version_is_that_of_the_distribution() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.strip() == f"pneumo-edge {version('pneumo-edge')}"
