"""Many images at a time, and one thing many times: the same bits, in order, in the same memory."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import Classifier, bundled
from pneumo_edge.benchmarks.measures.memory import peak_rss
from pneumo_edge.errors import ImageError, NoAnswerError, NotAnImageError
from pneumo_edge.runtime.batch import predict_each
from pneumo_edge.runtime.classifier import Prediction
from pneumo_edge.spec import PROBABILITY

_each_model = pytest.mark.parametrize("name", bundled.NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of many sizes, so that a small one overtakes a large one; the third is none."""
    rng = np.random.default_rng(0)
    place, paths = tmp_path_factory.mktemp("images"), []
    for index in range(24):
        path = place / f"{index:02}.jpeg"
        side = int(rng.integers(40, 1600))
        Image.effect_noise((side, 40 + side // 2), 60).save(path)
        paths.append(path)
    paths[2].write_text("no image")
    return paths


def _said(result: Prediction | ImageError) -> object:
    return str(result) if isinstance(result, ImageError) else (result.source, result.label, result.probabilities)


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_change_neither_order_nor_a_bit(folder: list[Path], workers: int) -> None:
    alone = list(map(_said, predict_each(Classifier(), folder)))
    assert list(map(_said, predict_each(Classifier(), folder, workers))) == alone
    assert [each for each in alone if isinstance(each, str)] == [alone[2]]
    assert len({str(each) for each in alone}) == len(folder)


@pytest.mark.parametrize("workers", [1, 3])
def test_paths_are_taken_as_they_are_needed(folder: list[Path], workers: int) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield folder[0]

    results = predict_each(Classifier(), endless(), workers)
    for _ in range(50):
        assert isinstance(next(results), Prediction)
    assert 50 <= taken <= 50 + 5 * workers
    results.close()


def test_no_thread_outlives_the_results(folder: list[Path]) -> None:
    import threading

    before = threading.active_count()
    results = predict_each(Classifier(), folder, 3)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_a_model_that_gives_nan_is_an_error_for_each_image(folder: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier()
    answers = {output.name: np.zeros(output.size, np.float32) for output in classifier.spec.outputs}
    answers[PROBABILITY] = np.full(2, np.nan, np.float32)
    monkeypatch.setattr(type(classifier.engine), "run_all", lambda self, tensor: dict(answers))
    found = list(predict_each(classifier, folder, 2))
    assert [type(each) for each in found].count(NoAnswerError) == len(folder) - 1
    assert isinstance(found[2], NotAnImageError)


@_each_model
def test_a_thousand_predictions_and_four_threads_give_one_answer(name: str) -> None:
    stream = io.BytesIO()
    Image.effect_noise((240, 230), 60).save(stream, "JPEG")
    data, classifier = stream.getvalue(), Classifier(name)
    with ThreadPoolExecutor(4) as pool:
        others = pool.map(lambda each: [each.predict(data) for _ in range(50)], [classifier.copy() for _ in range(4)])
        answers = {tuple(result.probabilities.values()) for results in others for result in results}
    answers |= {tuple(classifier.predict(data).probabilities.values()) for _ in range(800)}
    assert len(answers) == 1


def test_threads_that_share_a_classifier_get_the_answers_to_their_own_images(folder: list[Path]) -> None:
    classifier, paths = Classifier(), [path for path in folder if path != folder[2]]
    expected = [_said(classifier.predict(path)) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(map(_said, pool.map(classifier.predict, paths))) == expected


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_thousands_of_predictions_take_no_more_memory_and_files(folder: list[Path], workers: int) -> None:
    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # The small ones, each many times. One is no image.
    small = sorted(folder, key=lambda path: path.stat().st_size)[:8]
    results = predict_each(Classifier(), (small[(3 * index) % 8] for index in range(3600)), workers)
    for _ in range(400):
        next(results)
    files, memory, peak = handles(), resident(), peak_rss()
    judged = sum(isinstance(result, Prediction) for result in results)
    assert judged > 2500
    assert handles() <= files
    # A leak of one image in each prediction would be hundreds of megabytes.
    assert resident() < memory + 20_000_000
    assert peak_rss() < peak + 20_000_000
