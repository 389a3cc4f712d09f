"""The sample pack: real X-rays in the repository, so that everything can be tried without a download.

``make sample-pack DATA=folder`` draws it again, with the same bytes, from the Kermany et al. data set at 224 pixels.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pneumo_edge._util import files
from pneumo_edge._util.progress import track
from pneumo_edge.data.sources import FolderSource, Sample, SplitName
from pneumo_edge.errors import DataError
from pneumo_edge.imaging import images
from pneumo_edge.task import PNEUMONIA

NAME = "chest_xray_sample"
MANIFEST_NAME = "manifest.csv"
README_NAME = "README.md"
#: Part of every hash. Another rule draws other patients.
RULE_VERSION = "pneumo-edge-sample-1"
#: How many images of each class are drawn, at least.
IMAGES: dict[SplitName, int] = {"train": 200, "test": 60}

_COLUMNS = ("name", "class", "split", "patient", "sha256")
_README = f"""# Sample pack

Chest X-rays of children of one to five years, some with pneumonia, for trying and testing pneumo-edge. Nothing that is
trained or measured on so few images says how well a model does. Not for clinical use.

**Source.** D. Kermany, K. Zhang, M. Goldbaum, "Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for
Classification", Mendeley Data, 2018, https://doi.org/10.17632/rscbjbr9sj.2; described in Kermany et al., "Identifying
Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning", Cell 172, 2018,
https://doi.org/10.1016/j.cell.2018.02.010.

**Licence.** CC BY 4.0, https://creativecommons.org/licenses/by/4.0/. The rest of the repository is under Apache-2.0.

**Changes.** The images were scaled to 224x224 pixels (anti-aliased bilinear, aspect not kept) and saved as RGB JPEG.
Folders and file names are those of "Chest X-Ray Images (Pneumonia)" on Kaggle; train and test are its official splits.

**Which images.** Of each split and class, whole patients, in the order of the SHA-256 of
`{RULE_VERSION} SEED SPLIT CLASS PATIENT` with seed 0, until there are at least {IMAGES["train"]} images of train
or {IMAGES["test"]} of test. The patient is read from the file name, by pneumo-edge's own rule. The draw uses names and
nothing else: no pixels, no file sizes, no answers of a model.

`{MANIFEST_NAME}` lists name, class, split, patient and SHA-256 of each image. `make sample-pack DATA=folder` draws all
of this again, to the same bytes, from the data set at 224 pixels.
"""


def find() -> Path | None:
    """Return the folder of the sample pack, or None if this package runs from a wheel, without its repository."""
    folder = Path(__file__).parents[2] / NAME
    return folder if (folder / MANIFEST_NAME).is_file() else None


def draw(source: FolderSource, target: Path, seed: int = 0) -> Path:
    """Draw whole patients, and write their images, a manifest and a README into a folder.

    The same files and seed give the same bytes. The folder gets its name only when it is complete.

    Args:
        source: The Kermany et al. data set; its files are copied unchanged.
        target: The folder to create; an existing sample pack is replaced.
        seed: Chooses the patients, at least 0.

    Returns:
        ``target``.

    Raises:
        DataError: ``target`` contains something other than a sample pack, or the names contain no patients.
        ImageError: An image cannot be read.
        OSError: The folder cannot be written.
    """
    if target.exists() and not (target / MANIFEST_NAME).is_file() and any(target.iterdir()):
        raise DataError(
            f"{target} is a folder with other files in it",
            "a new or empty folder, or an older sample pack",
            "Give another path",
        )
    if not source.has_patients:
        raise DataError(
            f"{source.title} has no patients in its file names",
            "file names of the Kermany data set",
            "Give another folder",
        )
    with files.whole_folder(target) as folder:
        rows = []
        for sample in track(choose(source.samples, seed), "Copying X-rays"):
            data = images.read(source.path(sample))
            path = folder / sample.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            rows.append((sample.name, PNEUMONIA.class_names[sample.label], sample.split, sample.patient, digest))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows((_COLUMNS, *rows))
        (folder / MANIFEST_NAME).write_bytes(text.getvalue().encode())
        (folder / README_NAME).write_bytes(_README.encode())
    return target


def choose(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Draw whole patients of each split and class, in the order of a hash of their names, until there are enough.

    Args:
        samples: The samples of a data set, in any order; if there are too few, all are used.
        seed: Chooses the patients.

    Returns:
        The images of the patients drawn, by split, class and name.
    """
    of_patient: dict[tuple[SplitName, int], dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        of_patient[sample.split, sample.label][sample.patient].append(sample)
    chosen: list[Sample] = []
    for split, wanted in IMAGES.items():
        for label, class_name in enumerate(PNEUMONIA.class_names):
            patients = of_patient[split, label]
            drawn: list[Sample] = []
            for patient in sorted(patients, key=lambda name: _order(seed, split, class_name, name)):
                if len(drawn) >= wanted:
                    break
                drawn += patients[patient]
            chosen += sorted(drawn, key=lambda sample: sample.name)
    return chosen


def _order(seed: int, split: SplitName, class_name: str, patient: str) -> str:
    return hashlib.sha256(f"{RULE_VERSION} {seed} {split} {class_name} {patient}".encode()).hexdigest()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Draw the sample pack from the Kermany data set at 224 pixels.")
    parser.add_argument("data", type=Path, help="folder with train and test")
    parser.add_argument("target", type=Path, nargs="?", default=Path(NAME), help="folder to create")
    given = parser.parse_args()
    draw(FolderSource(given.data), given.target)
