"""Counterfactual validation of model files: ``make counterfactual-files``.

Each file classifies the validation images and their changed copies on LiteRT. Its metrics go to
``results/counterfactual/NAME.json``, and the table of all files into docs/shortcuts.md. The test split is not read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_edge._util import files, records
from pneumo_edge._util.cache import cache_folder
from pneumo_edge._util.progress import track
from pneumo_edge.backbones import backbone_title
from pneumo_edge.bundled import NAMES, find
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.evaluation.metrics import Scores, auc
from pneumo_edge.imaging import images
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.training import counterfactuals
from pneumo_edge.training.exchange import Donors, Grey
from tools import pages

RESULTS = Path("results/counterfactual")
PAGE = Path("docs/shortcuts.md")
_TARGET = "counterfactual-files"
_ENGINE = "litert"


@dataclass(frozen=True)
class Measured:
    """A model file.

    Attributes:
        backbone: Name of its row in the table of backbones.
        format: Its format.
        recipe: How it was trained.
        seed: Of its training.
        sha256: Of the file.
        fingerprint: Of the data set.
        images: Validation images.
        auc: On these.
        counterfactual: :func:`pneumo_edge.training.counterfactuals.counterfactual_metrics`.
    """

    backbone: str
    format: str
    recipe: str
    seed: int
    sha256: str
    fingerprint: str
    images: int
    auc: float
    counterfactual: dict[str, float]


def table(folder: Path) -> str:
    """A Markdown table of the files whose records are in a folder."""
    heading = ("file", "recipe", "seed", "AUC", "AUC, counterfactual", *counterfactuals.KINDS, "flips, all")
    found = []
    for path in sorted(folder.glob("*.json")):
        measured = records.loads(Measured, path.read_bytes())
        metrics = measured.counterfactual
        found.append(
            (
                f"{backbone_title(measured.backbone)}, `{measured.format}`",
                f"`{measured.recipe}`",
                str(measured.seed),
                f"{measured.auc:.4f}",
                f"{metrics['counterfactual_auc']:.4f}",
                *(f"{metrics[f'counterfactual_auc_{kind}']:.4f}" for kind in counterfactuals.KINDS),
                f"{metrics['counterfactual_flips_all']:.1%}",
            )
        )
    return pages.rows([heading, tuple("---" for _ in heading), *found])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure files, and redraw the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", nargs="*", default=NAMES, help="TFLite files; by default the bundled ones")
    parser.add_argument("--data", type=Path, help="folder with class folders; without it, only the page is drawn")
    given = parser.parse_args(arguments)
    try:
        if given.data is not None:
            _measure([find(model) for model in given.models], given.data)
        pages.put_table(PAGE, _TARGET, table(RESULTS))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


def _measure(models: Sequence[Path], data: Path) -> None:
    source, cache = open_source(data), cache_folder()
    for path in models:
        spec = read_spec(path)
        dataset = prepare(source, cache, spec.input.height, spec.input.width)
        donors, indices = Donors.of(dataset, cache), dataset.indices("val")
        labels = spec.task.targets(dataset.labels(indices))
        columns = {"probability": _scores(path, dataset.grey[indices], "unchanged")}
        for kind in counterfactuals.KINDS:
            changed = counterfactuals.change(dataset, indices, donors, kind)
            columns[counterfactuals.column(kind)] = _scores(path, changed, kind)
        measured = Measured(
            backbone=spec.backbone,
            format=spec.format,
            recipe=spec.training.recipe,
            seed=spec.training.seed,
            sha256=files.sha256(path),
            fingerprint=dataset.manifest.fingerprint,
            images=len(indices),
            auc=auc(labels, columns["probability"]),
            counterfactual=counterfactuals.counterfactual_metrics(labels, columns, spec.decision.threshold),
        )
        name = f"{spec.backbone}-{spec.training.recipe}-{spec.training.seed}-{spec.format}.json"
        files.write_text(RESULTS / name, records.document(measured))


def _scores(path: Path, grey: Grey, what: str) -> Scores:
    spec = read_spec(path)
    engine = engines.load(path, engines.ENGINES[_ENGINE])
    tensors = (images.grey_to_rgb(image[np.newaxis]).astype(spec.input.dtype) for image in grey)
    answers = (float(spec.task.scores(engine.run(tensor))) for tensor in tensors)
    return np.array(list(track(answers, f"{path.name}, {what}", len(grey))))


if __name__ == "__main__":
    main()
