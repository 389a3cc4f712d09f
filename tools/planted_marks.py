"""How often ``data audit`` finds a burned-in mark that was planted, or one where there is none: ``make planted-marks``.

For each seed, phantom images are drawn and searched as they are, and again with a text in a corner of 3 % of the
training images of one class. Class, corner, text and size are drawn by the seed. The trials are kept in
``results/audit/planted-marks.json``; trials that are there already are not made again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pneumo_edge._util import files, records
from pneumo_edge.data.audit import audit
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import open_source
from pneumo_edge.evaluation import metrics

RESULTS = Path("results", "audit", "planted-marks.json")
_SHARE = 0.03
_TEXTS = ("KV59", "R", "L 12:30", "AP")
_SIZES = (12, 16, 20)
#: Distance of a text from the edges in pixels. At the bottom it stands above the word that every phantom has.
_EDGE, _BOTTOM = 6, 22


@dataclass(frozen=True)
class Trial:
    """One data set.

    Attributes:
        seed: Of the phantom and of the mark.
        class_name: The class that the mark was planted in.
        corner: Where.
        text: What it is.
        size: Of its letters, in points.
        images: Training images with it.
        before: Marks that were found before it was planted.
        found: Marks of which most images are those it was planted in.
        beside: Other marks that were found with it.
    """

    seed: int
    class_name: str
    corner: str
    text: str
    size: int
    images: int
    before: int
    found: int
    beside: int


@dataclass(frozen=True)
class Trials:
    """All trials, with the number of training images of a class."""

    per_class: int
    trials: tuple[Trial, ...] = ()


def _plant(path: Path, text: str, size: int, corner: str) -> None:
    with Image.open(path) as opened:
        picture = opened.convert("L")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    _, _, width, height = draw.textbbox((0, 0), text, font=font)
    left = _EDGE if "left" in corner else picture.width - int(width) - _EDGE
    top = _EDGE if "upper" in corner else picture.height - int(height) - _BOTTOM
    draw.text((left, top), text, fill=255, font=font)
    picture.save(path, quality=90)


def _try(seed: int, per_class: int, folder: Path) -> Trial:
    chance = random.Random(seed)
    data = make_phantom(folder / "phantom", seed, per_class, 10)
    before = audit(open_source(data)).marks or ()
    class_name = chance.choice(("NORMAL", "PNEUMONIA"))
    corner = f"{chance.choice(('upper', 'lower'))} {chance.choice(('left', 'right'))}"
    text, size = chance.choice(_TEXTS), chance.choice(_SIZES)
    paths = chance.sample(sorted((data / "train" / class_name).iterdir()), round(_SHARE * per_class))
    for path in paths:
        _plant(path, text, size, corner)
    planted = {path.relative_to(data).as_posix() for path in paths}
    marks = audit(open_source(data)).marks or ()
    found = sum(2 * len(planted & set(mark.names)) > max(len(planted), len(mark.names)) for mark in marks)
    return Trial(seed, class_name, corner, text, size, len(paths), len(before), found, len(marks) - found)


def main(arguments: list[str] | None = None) -> int:
    """Make the trials that are missing, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=200)
    chosen = parser.parse_args(arguments)
    done = records.loads(Trials, RESULTS.read_bytes()) if RESULTS.exists() else Trials(chosen.per_class)
    if done.per_class != chosen.per_class:
        parser.error(f"{RESULTS} has trials of {done.per_class} images of a class; move it away")
    for seed in sorted(set(range(chosen.seeds)) - {trial.seed for trial in done.trials}):
        with tempfile.TemporaryDirectory() as folder:
            trial = _try(seed, chosen.per_class, Path(folder))
        done = replace(done, trials=(*done.trials, trial))
        files.write_text(RESULTS, records.document(done))
    hits, alarms = (sum(flags) for flags in zip(*((t.found > 0, t.before > 0) for t in done.trials), strict=True))
    print(f"planted mark found in {hits} of {len(done.trials)} data sets: {metrics.wilson(hits, len(done.trials))}")
    print(f"a mark found without one in {alarms} of {len(done.trials)}: {metrics.wilson(alarms, len(done.trials))}")
    print(f"other marks found beside a planted one: {sum(trial.beside for trial in done.trials)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
