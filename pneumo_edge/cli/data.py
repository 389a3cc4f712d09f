"""``pneumo-edge data``: fetch, audit, phantom."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Get, make and check data sets.")
