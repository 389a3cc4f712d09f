"""How often ``data audit`` finds a shortcut that was planted, or one where there is none: ``make planted-shortcuts``.

For each seed, phantom images are drawn and audited as they are, and again with three shortcuts: a text in a corner of
3 % of the training images of one class, a bright strip along an edge of 50 %, and a soft and flat rendering of 10 %. No
image gets two. Class, place, text and size are drawn by the seed. The trials are kept in
``results/audit/planted.json``; trials that are there already are not made again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pneumo_edge._util import files, records
from pneumo_edge.data.advice import outer_places
from pneumo_edge.data.audit import Audit, audit
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.places import Place
from pneumo_edge.data.sources import open_source
from pneumo_edge.evaluation import metrics

RESULTS = Path("results", "audit", "planted.json")
_TEXTS = ("KV59", "R", "L 12:30", "AP")
_SIZES = (12, 16, 20)
#: Distance of a text from the edges in pixels. At the bottom it stands above the word that every phantom has.
_EDGE, _BOTTOM = 6, 22
_SIDES = ("left", "right", "upper", "lower")
#: Width of a strip as a share of the image, and its grey level.
_STRIP, _GREY = 0.06, 90
#: Radius of the blur in pixels of a soft image, and its share of the contrast.
_BLUR, _FLAT = 1.5, 0.7


@dataclass(frozen=True)
class Planted:
    """A shortcut, and what the audit found of its kind.

    Attributes:
        kind: Its name in ``KINDS``.
        class_name: The class that it was planted in.
        what: What it is, and where.
        images: Training images with it.
        found: Findings that are the planted shortcut.
        beside: Other findings of its kind.
    """

    kind: str
    class_name: str
    what: str
    images: int
    found: int
    beside: int


@dataclass(frozen=True)
class Trial:
    """One data set: the findings of each kind before anything was planted, and what was planted."""

    seed: int
    before: dict[str, int]
    planted: tuple[Planted, ...]


@dataclass(frozen=True)
class Trials:
    """All trials, with the number of training images of a class."""

    per_class: int
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of shortcut.

    Attributes:
        share: Share of the training images of a class that get it.
        draw: What it is, and a function that plants it in an image.
        count: Findings of its kind, and those of them that are what was planted in these images.
    """

    share: float
    draw: Callable[[random.Random], tuple[str, Callable[[Image.Image], Image.Image]]]
    count: Callable[[Audit, str, Collection[str]], tuple[int, int]]


def _text(chance: random.Random) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    corner = f"{chance.choice(('upper', 'lower'))} {chance.choice(('left', 'right'))}"
    text, size = chance.choice(_TEXTS), chance.choice(_SIZES)

    def plant(picture: Image.Image) -> Image.Image:
        draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
        _, _, width, height = draw.textbbox((0, 0), text, font=font)
        left = _EDGE if "left" in corner else picture.width - int(width) - _EDGE
        top = _EDGE if "upper" in corner else picture.height - int(height) - _BOTTOM
        draw.text((left, top), text, fill=255, font=font)
        return picture

    return f"{text} of {size} points, {corner}", plant


def _strip(chance: random.Random) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    side = chance.choice(_SIDES)

    def plant(picture: Image.Image) -> Image.Image:
        width, height = picture.size
        across, down = round(_STRIP * width), round(_STRIP * height)
        boxes = {
            "left": (0, 0, across, height),
            "right": (width - across, 0, width, height),
            "upper": (0, 0, width, down),
            "lower": (0, height - down, width, height),
        }
        picture.paste(_GREY, boxes[side])
        return picture

    return side, plant


def _render(chance: random.Random) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    def plant(picture: Image.Image) -> Image.Image:
        soft = picture.filter(ImageFilter.GaussianBlur(_BLUR))
        return soft.point(lambda grey: round(128 + _FLAT * (grey - 128)))

    return "soft and flat", plant


def _most(planted: Collection[str], names: Collection[str]) -> bool:
    return 2 * len(set(planted) & set(names)) > max(len(planted), len(names))


def _count_marks(found: Audit, what: str, planted: Collection[str]) -> tuple[int, int]:
    marks = found.marks or ()
    return len(marks), sum(_most(planted, mark.names) for mark in marks)


def _count_edges(found: Audit, what: str, planted: Collection[str]) -> tuple[int, int]:
    told = outer_places(found.places or ())
    return len(told), sum(_touches(place, what) for place in told)


def _touches(place: Place, side: str) -> bool:
    return place.name == "border" or {
        "left": place.left == 0,
        "right": place.left + place.width == 1,
        "upper": place.top == 0,
        "lower": place.top + place.height == 1,
    }.get(side, False)


def _count_looks(found: Audit, what: str, planted: Collection[str]) -> tuple[int, int]:
    clusters = found.clusters or ()
    return len(clusters), sum(_most(planted, cluster.names) for cluster in clusters)


KINDS = {
    "marks": Kind(0.03, _text, _count_marks),
    "edges": Kind(0.5, _strip, _count_edges),
    "looks": Kind(0.1, _render, _count_looks),
}


def _try(seed: int, per_class: int, folder: Path) -> Trial:
    data = make_phantom(folder / "phantom", seed, per_class, 10)
    clean = audit(open_source(data))
    chance = random.Random(seed)
    left = {class_name: sorted((data / "train" / class_name).iterdir()) for class_name in ("NORMAL", "PNEUMONIA")}
    drawn = {name: _plant(kind, chance, left) for name, kind in KINDS.items()}
    dirty = audit(open_source(data))
    planted = []
    for name, (class_name, what, paths) in drawn.items():
        found, hits = KINDS[name].count(dirty, what, {path.relative_to(data).as_posix() for path in paths})
        planted.append(Planted(name, class_name, what, len(paths), hits, found - hits))
    return Trial(seed, {name: kind.count(clean, "", ())[0] for name, kind in KINDS.items()}, tuple(planted))


def _plant(kind: Kind, chance: random.Random, left: dict[str, list[Path]]) -> tuple[str, str, list[Path]]:
    """Plant a shortcut in images that have none, which are then no longer left: the class, what it is, and where."""
    class_name = chance.choice(list(left))
    what, plant = kind.draw(chance)
    per_class = sum(1 for _ in left[class_name][0].parent.iterdir())
    paths = chance.sample(left[class_name], round(kind.share * per_class))
    left[class_name] = [path for path in left[class_name] if path not in paths]
    for path in paths:
        with Image.open(path) as opened:
            picture = opened.convert("L")
        plant(picture).save(path, quality=90)
    return class_name, what, paths


def rates(done: Trials) -> Iterator[str]:
    """For each kind, how often it was found where it was planted and where nothing was."""
    of = len(done.trials)
    for name in KINDS:
        hits = sum(each.found > 0 for trial in done.trials for each in trial.planted if each.kind == name)
        alarms = sum(trial.before[name] > 0 for trial in done.trials)
        yield (
            f"{name}: found in {hits} of {of} data sets ({_share(hits, of)}), and in {alarms} of {of} without it "
            f"({_share(alarms, of)})"
        )


def _share(part: int, whole: int) -> str:
    share = metrics.wilson(part, whole)
    return f"{share.low:.2f} to {share.high:.2f}"


def main(arguments: list[str] | None = None) -> int:
    """Make the trials that are missing, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    path: Path = chosen.results
    done = records.loads(Trials, path.read_bytes()) if path.exists() else Trials(chosen.per_class)
    if done.per_class != chosen.per_class:
        parser.error(f"{path} has trials of {done.per_class} images of a class; move it away")
    for seed in sorted(set(range(chosen.seeds)) - {trial.seed for trial in done.trials}):
        with tempfile.TemporaryDirectory() as folder:
            trial = _try(seed, chosen.per_class, Path(folder))
        done = replace(done, trials=(*done.trials, trial))
        files.write_text(path, records.document(done))
    print(*rates(done), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
