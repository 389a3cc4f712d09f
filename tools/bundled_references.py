"""What ``verify`` holds the bundled models to: a proof and a reference set beside each of them.

``make bundled-references DATA=folder`` makes both in the repository's root, ``DATA`` being the Kermany et al. data set
at 224 pixels, out of the repository's records: the probabilities of the Keras models are those that training wrote
(``results/training``), the proofs those of the export (``results/formats``), but for the reference set that they name.
The validation images in the sample pack travel, as the files that they are there. The records do not have what the
Keras models say of images in colour, nor their other outputs.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumo_edge import bundled, runs
from pneumo_edge._util import files
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.converters import proof, reference
from pneumo_edge.converters.reference import Reference
from pneumo_edge.data import sample
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ConversionError, PneumoEdgeError
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.runtime.classifier import read_spec
from tools import formats_page

#: What training wrote of the run that each bundled model comes from.
_RUN = "results/training/{name}-best-0"


def write(dataset: Dataset, pack: Path, out: Path) -> None:
    """Write the proof and the reference set of each bundled model.

    The same records and images give the same files.

    Args:
        dataset: That of the training, at the models' size.
        pack: The sample pack.
        out: The folder to write into.

    Raises:
        ConversionError: A proof belongs to another file than the bundled one, the data is not that of the training, or
            ``validation.csv`` is of other images.
        OSError: A file cannot be read or written.
    """
    proofs = formats_page.RESULTS
    encoded = {files.sha256(path): path.read_bytes() for path in sorted(pack.rglob("*.jpeg"))}
    if not encoded:
        raise ConversionError(f"{pack} holds no X-rays", "the sample pack", "Run this in the root of the repository")
    for name in bundled.NAMES:
        model = bundled.path(name)
        record = proof.load(proofs / model.name)
        for what, found, expected in (
            (model, files.sha256(model), record.sha256),
            ("the data", dataset.manifest.fingerprint, record.origin.fingerprint),
        ):
            if found != expected:
                raise ConversionError(
                    f"{what} has the SHA-256 {found[:16]}",
                    f"{expected[:16]}, that in {proof.path(proofs / model.name)}",
                    "Give the data, and keep the proof, that belong to the bundled file",
                )
        path = out / reference.file_name(name)
        reference.save(_make(dataset, name, record.origin.checkpoint), path, encoded)
        replace(record, origin=replace(record.origin, reference=files.sha256(path))).save(out / model.name)


def _make(dataset: Dataset, name: str, checkpoint: str) -> Reference:
    spec, indices = read_spec(bundled.path(name)), dataset.indices("val")
    entries, labels, pixels = dataset.entries(indices), dataset.labels(indices), dataset.rgb(indices)
    written = Path(_RUN.format(name=name)) / runs.VALIDATION_NAME
    with written.open(newline="", encoding="utf-8") as stream:
        rows = {row["name"]: (int(row["label"]), float(row["probability"])) for row in csv.DictReader(stream)}
    if {each.name: each.label for each in entries} != {image: label for image, (label, _) in rows.items()}:
        raise ConversionError(
            f"{written} has other images or labels than the data", "its validation split", "Give the data of that run"
        )
    scores = np.array([rows[each.name][1] for each in entries])
    rule = ThresholdRule(spec.decision.rule)
    return Reference(
        checkpoint=checkpoint,
        fingerprint=dataset.manifest.fingerprint,
        sha256=np.array([each.sha256 for each in entries]),
        pixels=pixels,
        labels=labels,
        patients=np.unique([each.patient for each in entries], return_inverse=True)[1],
        scores=scores,
        threshold=choose_threshold(rule, labels, scores),
        rule=rule,
        red=pixels[:0],
        red_scores=scores[:0],
        blue_scores=scores[:0],
    )


def main() -> None:
    """Write them into the package of the repository."""
    import argparse

    parser = argparse.ArgumentParser(description="Put proofs and reference sets beside the bundled models.")
    parser.add_argument("data", type=Path, help="the Kermany data set at 224 pixels, a folder with train and test")
    parser.add_argument("out", type=Path, nargs="?", default=bundled.path(bundled.DEFAULT).parent, help="where to")
    given = parser.parse_args()
    size = read_spec(bundled.path(bundled.DEFAULT)).input
    try:
        dataset = prepare(open_source(given.data), cache_folder(), size.height, size.width)
        write(dataset, Path(sample.NAME), given.out)
    except (PneumoEdgeError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
