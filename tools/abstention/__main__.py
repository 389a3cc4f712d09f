"""Measures prediction sets and input check for docs/uncertain-answers.md: ``make uncertain``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo_edge import bundled
from pneumo_edge._util import files
from pneumo_edge._util.cache import cache_folder
from pneumo_edge._util.progress import track
from pneumo_edge.data.sources import DataSource, open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ModelFileError, PneumoEdgeError
from pneumo_edge.imaging import folders
from pneumo_edge.runtime.classifier import Classifier, Prediction
from tools import pages
from tools.abstention import out_of_distribution, results
from tools.abstention.page import tables
from tools.abstention.results import FileResults, OutOfDistributionImages, PredictedImages

#: The page of each folder of results.
PAGES = {
    Path("results/uncertain"): Path("docs/uncertain-answers.md"),
    Path("results/three-classes/uncertain"): Path("docs/three-classes.md"),
}
RESULTS = next(iter(PAGES))
_SEED = 1
_DIGITS = 6


def measure(model: str | Path, data: Path, cache: Path, originals: Path | None = None) -> FileResults:
    """Classify the test split, images that the model was not made for, and X-rays at full resolution if there are any.

    Raises:
        ModelFileError: The file cannot be read, or has no prediction sets.
        DataError: The data cannot be opened.
    """
    classifier = Classifier(model)
    spec = classifier.spec
    if spec.conformal is None:
        raise ModelFileError(
            f"{classifier.path} does not say when it is uncertain",
            "a file with prediction sets",
            "Export it again with this version of pneumo-edge",
        )
    source = open_source(DataSource.of(data).with_defaults(spec.data.options), task=spec.task)
    dataset = prepare(source, cache, spec.input.height, spec.input.width)
    test = dataset.indices("test")
    said = _classify(classifier, _pictures(dataset, test), f"Classifying the test images with {spec.name}")
    x_rays = _pictures(dataset, dataset.indices("val"))
    random = np.random.default_rng(_SEED)
    unlike = [
        OutOfDistributionImages(
            kind.name, kind.subtle, _distances(_classify(classifier, list(kind.make(random, x_rays)), kind.name))
        )
        for kind in (out_of_distribution.KINDS if spec.input_check else ())
    ]
    task, positive = spec.task, spec.decision.positive_class
    others = tuple(name for name in task.class_names if name != positive)
    return FileResults(
        file=classifier.path.name,
        sha256=files.sha256(classifier.path),
        backbone=spec.backbone,
        format=spec.format,
        engine=classifier.engine.name,
        engine_version=classifier.engine.version,
        data=dataset.manifest.source,
        threshold=spec.decision.threshold,
        conformal=spec.conformal,
        input_check=spec.input_check,
        test=PredictedImages(
            tuple(task.targets(dataset.labels(test)).tolist()),
            tuple(each.probabilities[positive] for each in said) if positive else (),
            _distances(said),
            () if positive else tuple(tuple(each.probabilities.values()) for each in said),
        ),
        foreign=tuple(unlike),
        class_names=(*others, positive) if positive else others,
        full_resolution=_distances(
            classifier.predict(path) for path in track(_image_files(originals), "Full resolution")
        ),
    )


def _image_files(folder: Path | None) -> list[Path]:
    return [path for tree in folders.search([folder]) for path in tree.images] if folder else []


def _pictures(dataset: Dataset, indices: Iterable[int]) -> list[Image.Image]:
    return [Image.fromarray(dataset.grey[index]) for index in indices]


def _classify(classifier: Classifier, pictures: Sequence[Image.Image], what: str) -> list[Prediction]:
    return [classifier.predict(picture) for picture in track(pictures, what)]


def _distances(said: Iterable[Prediction]) -> tuple[float, ...]:
    return tuple(round(each.distance, _DIGITS) for each in said if each.distance is not None)


def main() -> None:
    """Measure what is asked for, and draw the pages from everything in the folders of :data:`PAGES`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the data set; without it, only the page is drawn again")
    parser.add_argument("--originals", type=Path, help="a folder of X-rays at full resolution, which must pass")
    parser.add_argument("models", nargs="*", default=list(bundled.NAMES), help="names of bundled models, or paths")
    parser.add_argument("--results", type=Path, default=RESULTS, choices=list(PAGES), help="the folder of results")
    options = parser.parse_args()
    try:
        if options.data:
            for model in options.models:
                results.write(measure(model, options.data, cache_folder(), options.originals), options.results)
        for folder, page in PAGES.items():
            if found := [results.read(file) for file in sorted(folder.glob("*.json"))]:
                pages.put_table(page, "uncertain", tables(found))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
