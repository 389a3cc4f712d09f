"""Style sheet and icon of the pages: that of the service, and the one that classifies in the browser."""

from __future__ import annotations

from pathlib import Path

#: The folder with ``style.css`` and ``icon.svg``.
ASSETS = Path(__file__).parent
