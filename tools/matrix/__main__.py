"""Measures the networks that have no record yet, and writes docs/matrix.md."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from pneumo_edge import backbones
from pneumo_edge._util import files, records, scratch
from pneumo_edge.backbones import Backbone
from pneumo_edge.converters import isolated
from pneumo_edge.data import sample
from pneumo_edge.training.initial_weights import RANDOM, InitialWeights
from tools.matrix import page
from tools.matrix.measure import measure
from tools.matrix.network_records import NETWORKS, RESULTS

_SIDE = 96


def main() -> None:
    """Measure the networks that have no record yet."""
    parser = argparse.ArgumentParser(description="Export every network to every format, and check and time each file.")
    parser.add_argument("--weights", type=Path, help="a folder with ImageNet's weights")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    given = parser.parse_args()
    data = sample.find()
    if data is None:
        raise SystemExit("the sample pack is not there; run this in the repository")
    with scratch.folder() as place, isolated.child_process(place / "converter.log") as child:
        for name in given.networks:
            path = given.out / f"{name}.json"
            if path.exists():
                continue
            row = backbones.variant(name, side=_SIDE)
            with scratch.folder() as folder:
                record = measure(row, _initial(row, given.weights), data, folder, child)
            files.write_text(
                path, records.document(replace(record, network=name, title=backbones.BACKBONES[name].title))
            )
            cells = [cell for each in record.formats for cell in each.cells]
            passed = sum(not cell.failure for cell in cells)
            print(f"{name}: {passed} of {len(cells)} cells pass, {record.seconds:.0f} s", flush=True)
    if given.out == RESULTS:
        page.write()


def _initial(row: Backbone, weights: Path | None) -> InitialWeights:
    path = weights / row.pretrained.file if weights and row.pretrained else None
    return InitialWeights(f"ImageNet, {path.name}", path) if path and path.is_file() else RANDOM


if __name__ == "__main__":
    main()
