"""What the trial of the folder that is watched measured, and its page."""

from __future__ import annotations

import json
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]


def test_the_page_says_what_was_measured() -> None:
    found = json.loads((_REPOSITORY / "results" / "watch" / "trial.json").read_text(encoding="utf-8"))
    trial, latency = found["trial"], found["latency"]
    assert (trial["missing"], trial["more_than_once"], trial["left_in_the_folder"]) == (0, 0, 0)
    assert trial["moved"] == trial["files"]
    page = (_REPOSITORY / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    memory = [size / 1e6 for _, size in trial["memory_bytes_by_verdicts"]]
    for text in (
        f"{trial['files']:,} files",
        f"{trial['kills']} kills",
        f"{min(memory):.0f} to {max(memory):.0f} MB",
        f"{latency['added_median_ms']:.0f} ms",
        f"{latency['added_p99_ms']:.0f} ms",
    ):
        assert text in page
