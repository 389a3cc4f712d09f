"""The records of what scoring an archive costs, and the page that is computed from them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge import Classifier
from tests import pages
from tools import scale_benchmark
from tools.scale_benchmark import PARTS, Record


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Record]:
    monkeypatch.chdir(pages.REPOSITORY)
    return scale_benchmark.read()


def test_memory_does_not_grow_with_the_images_and_listing_is_fast(found: dict[str, Record]) -> None:
    assert found.keys() == PARTS.keys()
    (few,), (many,) = found["memory"].runs["few"], found["memory"].runs["many"]
    assert many.images == 10 * few.images
    assert many.driver_memory <= 1.05 * few.driver_memory and many.worker_memory <= 1.05 * few.worker_memory
    assert found["listing"].values["names_a_cpu_second"] >= 100_000


def test_the_page_has_the_tables_of_the_records(found: dict[str, Record]) -> None:
    page = (pages.REPOSITORY / scale_benchmark.PAGE).read_text(encoding="utf-8")
    assert scale_benchmark.cost(found) in page


def test_a_list_repeats_its_paths(tmp_path: Path) -> None:
    written = scale_benchmark.write_list(tmp_path / "list.txt", ["a", "b"], 5)
    assert written.read_text() == "a\nb\na\nb\na\n"


@pytest.mark.slow
def test_ray_data_writes_the_answers_of_predict(tmp_path: Path, classifier: Classifier) -> None:
    pytest.importorskip("ray.data", reason="the extra 'scale' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = sorted(map(str, (pages.REPOSITORY / "chest_xray_sample" / "train").rglob("*.jpeg")))[:4]
    names = scale_benchmark.write_list(tmp_path / "list.txt", paths, 4)
    words = ("pipeline", names, tmp_path / "out", classifier.path, 2, 2)
    done = subprocess.run(
        [sys.executable, "-m", "tools.scale_benchmark", *map(str, words)], cwd=pages.REPOSITORY, stdout=subprocess.PIPE
    )
    assert json.loads(done.stdout)["images"] == 4
    found = parquet.read_table(tmp_path / "out").to_pylist()
    assert {row["name"]: row["probabilities"] for row in found} == {
        path: list(classifier.predict(path).probabilities.values()) for path in paths
    }


def test_a_large_image_has_the_size_of_an_original() -> None:
    content = scale_benchmark.large_image()
    assert 500_000 < len(content) < 1_500_000
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (1500, 1500)
