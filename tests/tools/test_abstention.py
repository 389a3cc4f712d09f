from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge.errors import ResultsError
from pneumo_edge.spec import ConformalSpec, InputCheckSpec
from tools.abstention import out_of_distribution, results, rule
from tools.abstention.__main__ import PAGES
from tools.abstention.page import tables
from tools.abstention.results import FileResults, OutOfDistributionImages, PredictedImages

_REPOSITORY = Path(__file__).parents[2]
_FOUND = FileResults(
    file="a-int8.tflite",
    sha256="0" * 64,
    backbone="a",
    format="int8",
    engine="litert",
    engine_version="2",
    data="images",
    threshold=0.5,
    conformal=ConformalSpec(0.95, 0.6, 0.4, {"NORMAL": 20, "PNEUMONIA": 20}, "validation"),
    input_check=InputCheckSpec((0.0,), (1.0,), (1,), 2.0, 0.99, "validation"),
    test=PredictedImages((0, 0, 1, 1, 1), (0.1, 0.45, 0.55, 0.9, 0.2), (1.0, 1.5, 2.5, 1.0, 3.0)),
    foreign=(OutOfDistributionImages("cats", False, (5.0, 6.0, 1.0, 9.0)),),
)


def test_what_is_measured_follows_from_what_was_said() -> None:
    answered = _FOUND.answered()
    assert answered.share.value == 3 / 5
    assert answered.accuracy.value == 2 / 3
    assert [each.value for each in answered.by_class] == [1 / 2, 1 / 3]
    assert _FOUND.false_alarms().value == 2 / 5
    assert _FOUND.accuracy(flagged=True).value == 1 / 2
    assert _FOUND.accuracy(flagged=False).value == 1
    assert _FOUND.input_check
    assert _FOUND.foreign[0].flagged(_FOUND.input_check).value == 3 / 4


def test_the_tables_say_it(tmp_path: Path) -> None:
    results.write(_FOUND, tmp_path)
    read = results.read(results.path(tmp_path, _FOUND.file))
    assert read == _FOUND
    text = tables([read])
    for cell in ("| cats (4) | 75.0% [", "| test images: false alarms | 40.0% [", "| promised for each class | 95% |"):
        assert cell in text
    assert "full resolution" not in text
    sharp = replace(_FOUND, full_resolution=(1.0, 1.2, 1.9, 2.1))
    assert "| X-rays at full resolution (4): false alarms | 25.0% [" in tables([sharp])


def test_three_classes_are_measured_by_the_bound_of_each(tmp_path: Path) -> None:
    names = ("A", "B", "C")
    three = replace(
        _FOUND,
        threshold=None,
        class_names=names,
        conformal=ConformalSpec(
            0.95, None, None, dict.fromkeys(names, 20), "validation", {"A": 0.4, "B": 0.3, "C": 0.5}
        ),
        test=PredictedImages(
            (0, 1, 2, 2), (), (1.0, 1.5, 2.5, 1.0),
            ((0.8, 0.1, 0.1), (0.45, 0.5, 0.05), (0.1, 0.3, 0.6), (0.1, 0.7, 0.2)),
        ),
    )  # fmt: skip
    results.write(three, tmp_path)
    read = results.read(results.path(tmp_path, three.file))
    assert read == three
    # The sets are A, A and B, B and C, and B.
    assert [each.value for each in read.answered().by_class] == [1, 1, 0.5]
    assert read.accuracy(flagged=True).value == 1
    assert "| of C | 50.0% [" in tables([read])
    for wrong in ({"class_names": names[:2]}, {"threshold": 0.5}, {"conformal": _FOUND.conformal}):
        with pytest.raises(ValueError, match=r"not (of 3|for the) classes"):
            replace(three, **wrong)


def test_a_file_without_an_input_check_has_prediction_sets_all_the_same() -> None:
    unchecked = replace(_FOUND, input_check=None, test=replace(_FOUND.test, distances=()), foreign=())
    text = tables([unchecked])
    assert "promised for each class" in text
    assert "false alarms" not in text
    both = tables([unchecked, _FOUND])
    assert both.count("a `int8`, litert 2") == 3


def test_results_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be read"):
        results.read(tmp_path / "nothing.json")


@pytest.mark.parametrize(("folder", "page"), PAGES.items(), ids=str)
def test_the_page_follows_from_the_raw_results(folder: Path, page: Path) -> None:
    if not (_REPOSITORY / folder).is_dir():
        pytest.skip("the results are in the repository alone")
    found = [results.read(file) for file in sorted((_REPOSITORY / folder).glob("*.json"))]
    assert tables(found) in (_REPOSITORY / page).read_text()


@pytest.mark.parametrize("kind", out_of_distribution.KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_made_the_same_again_of_grey_images(kind: out_of_distribution.Kind) -> None:
    random = np.random.default_rng(0)
    x_rays = [Image.fromarray(random.integers(0, 256, (60, 50), dtype=np.uint8)) for _ in range(5)]
    first, second = (list(kind.make(np.random.default_rng(1), x_rays)) for _ in range(2))
    assert {image.mode for image in first} == {"L"}
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    changed = kind.name.startswith(("X-rays", "another", "mirrored"))
    assert len(first) == (5 if changed else 7 if kind.name.startswith("CT") else out_of_distribution.COUNT)
    if changed:
        assert all(image.size == (50, 60) or image.size == (60, 50) for image in first)
        originals = {image.tobytes() for image in x_rays}
        assert not originals & {image.tobytes() for image in first}


def test_the_page_shows_the_cross_validation_of_the_rule() -> None:
    assert rule.table(_REPOSITORY / rule.RUN) in (_REPOSITORY / rule.PAGE).read_text(encoding="utf-8")
