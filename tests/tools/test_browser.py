"""The tables of the page on the site come from the record."""

from __future__ import annotations

from pneumo_edge._util import records
from pneumo_edge.web import build
from tests import pages
from tools import browser


def test_the_page_shows_the_record() -> None:
    found = records.loads(browser.Compared, (pages.REPOSITORY / browser.RESULTS).read_bytes())
    assert browser.tables(found) in (pages.REPOSITORY / browser.PAGE).read_text(encoding="utf-8")


def test_what_the_page_does_not_refuse_agrees_with_python() -> None:
    found = records.loads(browser.Compared, (pages.REPOSITORY / browser.RESULTS).read_bytes())
    assert found.max_pixel_difference <= 1
    accepted = [each for each in found.measured if each.check <= build.MEAN_DIFFERENCE]
    assert {each.model for each in accepted} >= {"mobilenetv2-int8.tflite", "efficientnetb0-int8.tflite"}
    for each in accepted:
        assert each.same_decision >= 0.995
        assert each.mean_difference <= 0.005
