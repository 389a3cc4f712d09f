"""The page as a reader sees it, in Chromium: on a desktop and on a phone, in light and dark."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from pneumo_edge.benchmarks import report
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.report import html
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.report.sections import claims
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import summarise
from tests.present import present

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

MakeResults = Callable[..., Results]

DESKTOP, PHONE = 1280, 390
#: Width and height in CSS pixels.
SCREENS = [(DESKTOP, 800), (PHONE, 844)]
FORMATS = ("fp32", "fp16", "int8", "int16x8", "integer-only", "dynamic", "weight-only")
#: WCAG 2.2, success criterion 1.4.3.
LEAST_CONTRAST = 4.5

# For every text that is shown: its contrast with what lies behind it, by the formula of WCAG 2.2.
CONTRASTS = """
() => {
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.alpha === 1) return colour.rgb;
      if (colour.alpha > 0) throw new Error("a background is half transparent");
    }
    throw new Error("no background");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color).rgb;
    const [dark, light] = [luminance(ink), luminance(behind(element))].sort((a, b) => a - b);
    found.push([text, (light + 0.05) / (dark + 0.05)]);
  }
  return found;
}
"""


def _many(results: Results) -> Results:
    """The same on two engines with one and two threads: 16 units, the smallest file of 12 MB."""
    places = [(engine, threads) for engine in ("litert", "tflite-runtime") for threads in (1, 2)]

    def each(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            replace(item, unit=replace(item.unit, engine=engine, threads=threads))
            for engine, threads in places
            for item in items
        )

    return replace(
        results,
        units=each(results.units),
        twins=each(results.twins),
        conditions=tuple(
            replace(item, engine=engine, threads=threads) for engine, threads in places for item in results.conditions
        ),
        models=tuple(
            replace(model, size_bytes=12_000_000) if model.file == "mobilenetv2-fp32.tflite" else model
            for model in results.models
        ),
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, make_results: MakeResults) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.write(gather([summarise(_many(make_results()))]), path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, page_file: Path) -> dict[str, Path]:
    """The page, and the top of that of this project's benchmark: 22 files."""
    runs = gather([summarise(raw.read(Path(__file__).parents[2] / "results/benchmark/results.json.gz"))])
    whole = compose(runs)
    path = tmp_path_factory.mktemp("page") / "full.html"
    path.write_text(html.render(replace(whole, sections=())), encoding="utf-8")
    return {"made": page_file, "full": path}


@contextmanager
def _open(browser: Browser, path: Path, width: int = DESKTOP, height: int = 900, **options: Any) -> Iterator[Page]:
    """The page without a network; it fails where the page asks for anything or reports an error."""
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(path.as_uri())
        yield page
        assert asked == [path.as_uri()]
        assert errors == []
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_fits_and_can_be_read(browser: Browser, page_file: Path, width: int, scheme: str) -> None:
    with _open(browser, page_file, width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for details in page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 300
        assert [(text, ratio) for text, ratio in contrasts if ratio < LEAST_CONTRAST] == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(22, 24, 27)") == (scheme == "dark")


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_the_first_screen_is_a_sentence_and_a_picture(
    browser: Browser, page_file: Path, width: int, height: int
) -> None:
    with _open(browser, page_file, width, height=height) as page:
        places = []
        for what in ("h1", ".lead", "figure svg:visible", "table"):
            box = page.locator(what).first.bounding_box()
            assert box
            places.append((box["y"], box["y"] + box["height"]))
        assert all(below[0] >= above[1] for above, below in pairwise(places))
        assert places[2][1] <= height
        lead = page.locator(".lead").text_content() or ""
        assert lead.startswith("Use mobilenetv2-fp32.tflite: ")
        # A warning is one line there, with its reasons folded.
        warning = page.locator(".warning")
        assert warning.locator("summary").is_visible()
        assert not warning.locator("p").is_visible()


@pytest.mark.parametrize("results", ["made", "full"])
@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_the_labels_of_the_picture_can_be_read(
    browser: Browser, pictures: dict[str, Path], results: str, width: int, height: int
) -> None:
    with _open(browser, pictures[results], width, height=height) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        texts = page.locator(".top svg:visible text")
        boxes = texts.evaluate_all(
            """texts => texts.map(text => {
                const box = text.getBoundingClientRect();
                return [text.textContent, box.left, box.top, box.right, box.bottom];
            })"""
        )
        formats = [text for text, *_ in boxes if text.split(".")[0] in FORMATS]
        assert len(formats) == {"made": 4, "full": 22}[results]
        for text, left, top, right, bottom in boxes:
            assert left >= 0 and right <= width, text
            # The height of a line; its letters are smaller.
            assert bottom - top >= 11, text
        for (one, *first), (other, *second) in combinations(boxes, 2):
            across = min(first[2], second[2]) - max(first[0], second[0])
            down = min(first[3], second[3]) - max(first[1], second[1])
            # Lines of text may touch, as in a paragraph.
            assert across <= 0 or down <= 2, (one, other)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_every_figure_is_shown_once_and_whole(browser: Browser, page_file: Path, width: int) -> None:
    with _open(browser, page_file, width) as page:
        figures = page.locator("figure")
        assert figures.count() == 6
        for number, figure in enumerate(figures.all()):
            shown = [drawing for drawing in figure.locator("svg").all() if drawing.is_visible()]
            assert len(shown) == 1
            box = shown[0].bounding_box()
            assert box
            assert box["width"] > 300
            assert box["height"] > 100
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            # Below the first figure, which has a point for each file, a panel for each engine and number of threads.
            titles = shown[0].locator("text").all_text_contents()
            for title in ("litert", "litert, 2 threads", "tflite-runtime", "tflite-runtime, 2 threads"):
                assert titles.count(title) == (number > 0)
            assert figure.locator("figcaption").is_visible()


def test_a_table_that_is_too_wide_scrolls_in_its_own_box(browser: Browser, page_file: Path) -> None:
    with _open(browser, page_file, PHONE) as page:
        boxes = page.locator("section > .table")
        widths = boxes.evaluate_all("boxes => boxes.map(box => [box.scrollWidth, box.clientWidth])")
        assert any(inside > outside for inside, outside in widths)
        assert all(outside < PHONE for _, outside in widths)
        # Whoever has no mouse can scroll it.
        assert boxes.evaluate_all("boxes => boxes.every(box => box.tabIndex === 0 && box.ariaLabel)")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_the_verdict_follows_the_table_of_files(
    browser: Browser, page_file: Path, make_results: MakeResults, width: int
) -> None:
    runs = gather([summarise(_many(make_results()))])
    titles = {str(row[0]) for row in claims.evidence_table(runs).rows}
    with _open(browser, page_file, width) as page:
        titles_of_sections = page.locator("section h2").all_text_contents()
        assert titles_of_sections[:2] == ["Accuracy, latency and size", "Verdict"]
        first_table = page.locator("#verdict table").first.bounding_box()
        assert first_table
        sentences = page.locator("#verdict > ul > li")
        assert sentences.count() == len(titles) == 6
        for sentence in sentences.all():
            text = sentence.text_content() or ""
            assert any(text.startswith(f"{title}: ") for title in titles)
            box = sentence.bounding_box()
            assert box
            assert box["y"] + box["height"] <= first_table["y"]
        faster = sentences.first.text_content() or ""
        # In the made results int8 misses its accuracy target.
        assert faster.startswith("MobileNetV2's file is faster than EfficientNetB0's: supported in all 8 comparisons (")
        assert faster.endswith(" times as fast; not eligible among them: int8).")
        assert page.evaluate("document.querySelector('#verdict').querySelectorAll('td.good').length") >= 8


def _column(table: Locator, column: int) -> list[str]:
    return [
        text.strip()
        for text in table.locator(f"tbody td:nth-child({column})").evaluate_all(
            "cells => cells.map(cell => cell.firstChild ? cell.firstChild.textContent : '')"
        )
    ]


def _place(table: Locator, heading: str) -> int:
    return [text.strip() for text in table.locator("th").all_text_contents()].index(heading) + 1


@pytest.mark.parametrize(
    ("section", "heading"),
    [
        ("model-files", "Bytes"),
        ("accuracy-latency-and-size", "Inference ms"),
        ("accuracy-latency-and-size", "Size MiB"),
        ("latency", "Calls"),
        ("time-by-stage", "Inference share"),
    ],
)
def test_a_heading_sorts_the_rows_by_number(browser: Browser, page_file: Path, section: str, heading: str) -> None:
    with _open(browser, page_file) as page:
        table = page.locator(f"#{section} table").first
        place = _place(table, heading)
        head = table.locator(f"th:nth-child({place})")
        before = table.locator("tbody tr").all_text_contents()

        def numbers() -> list[float]:
            return [float(text.replace(",", "").removesuffix("%")) for text in _column(table, place)]

        assert head.get_attribute("aria-sort") == "none"
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert numbers() == sorted(numbers())
        # The rows moved, not the cells: every row is still there and whole.
        assert sorted(filter(None, before)) == sorted(
            row.text_content() or "" for row in table.locator("tbody tr").all()
        )
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert numbers() == sorted(numbers(), reverse=True)
        assert table.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1
        head.get_by_role("button").press("Space")
        assert head.get_attribute("aria-sort") == "none"
        assert table.locator("tbody tr").all_text_contents() == before


def test_bytes_are_sorted_as_numbers_and_words_as_words(browser: Browser, page_file: Path) -> None:
    with _open(browser, page_file) as page:
        table = page.locator("#model-files table")
        table.get_by_role("button", name="Bytes").click()
        assert _column(table, _place(table, "Bytes")) == ["2,000,000", "2,000,000", "8,000,000", "12,000,000"]
        table.get_by_role("button", name="File").click()
        assert _column(table, 1) == sorted(_column(table, 1))


def test_a_long_table_is_searched(browser: Browser, page_file: Path) -> None:
    with _open(browser, page_file) as page:
        section = page.locator("#accuracy-latency-and-size")
        section.get_by_text("Every file on every engine: 16 units").click()
        section = section.locator("details").first
        rows = section.locator("tbody tr")
        assert rows.count() == 16
        section.get_by_role("searchbox", name="Rows with").fill("int8 tflite-runtime mobile")
        shown = [row.text_content() or "" for row in rows.all() if row.is_visible()]
        assert len(shown) == 2
        assert all("int8" in text and "tflite-runtime" in text and "MobileNetV2" in text for text in shown)
        assert section.locator("output").text_content() == "2 of 16"
        section.get_by_role("searchbox").fill("")
        assert all(row.is_visible() for row in rows.all())


def test_it_is_whole_without_its_script(browser: Browser, page_file: Path) -> None:
    with _open(browser, page_file, java_script_enabled=False) as page:
        assert page.get_by_text("MobileNetV2's file is faster than EfficientNetB0's: supported in all 8").is_visible()
        assert page.locator("button, input").count() == 0
        table = page.locator("#accuracy-latency-and-size table").first
        assert table.get_by_role("columnheader", name="Inference ms").is_visible()
        assert table.locator("tbody tr").count() == 4
        assert page.locator("figure svg").first.is_visible()
        page.get_by_text("Every claim with its evidence").click()
        assert page.locator("#verdict details td.long").first.is_visible()


def test_no_other_script_runs_whatever_a_name_says(browser: Browser, tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    nasty = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    results = replace(
        results,
        machine=replace(results.machine, cpu=nasty),
        test_set=replace(present(results.test_set), left_out={nasty: nasty}),
    )
    report.write(gather([summarise(results)]), tmp_path / "report.html")
    with _open(browser, tmp_path / "report.html") as page:
        assert page.title() == f"Chest X-ray classifiers on {nasty}"
        assert page.get_by_text(nasty).first.is_visible()


def test_several_runs_fit_too(browser: Browser, tmp_path: Path, make_results: MakeResults) -> None:
    runs = gather([summarise(make_results()), summarise(make_results(speeds={"efficientnetb0": 4, "mobilenetv2": 6}))])
    report.write(runs, tmp_path / "report.html")
    with _open(browser, tmp_path / "report.html", PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert page.locator("#comparison-of-runs table").is_visible()


def test_the_picture_for_the_readme_is_taken_by_make(page_file: Path, tmp_path: Path) -> None:
    if not (shutil.which("make") and (shutil.which("chromium") or shutil.which("google-chrome"))):
        pytest.skip("the picture is taken with make and Chromium")
    picture = tmp_path / "report.png"
    command = ["make", "report-picture", f"REPORT={page_file}", f"PICTURE={picture}"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        assert image.width == DESKTOP
        assert len(image.convert("L").getcolors() or ()) > 20
