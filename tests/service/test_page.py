"""The page, in a real browser, with the service behind it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from pneumo_edge import Classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PHONE, _DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, service: Any) -> Iterator[Open]:
    """Open the page; at the end, the browser must have had nothing to complain of and asked nobody else."""
    opened = []

    def open_with(viewport: dict[str, int] = _DESKTOP, scheme: str = "light", url: str = service.url) -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        own = (url, "data:image/jpeg;base64,")
        page.on("request", lambda request: None if request.url.startswith(own) else complaints.append(request.url))
        opened.append((context, complaints))
        page.goto(url)
        return page

    yield open_with
    for context, complaints in opened:
        context.close()
        # The browser itself notes each response of 400 and over.
        assert [line for line in complaints if "Failed to load resource: the server responded" not in line] == []


@pytest.fixture
def x_ray(tmp_path: Path) -> Path:
    path = tmp_path / "x-ray.png"
    Image.radial_gradient("L").resize((900, 700)).save(path)
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_text("no X-ray")
    return path


def _wait_for_verdict(page: Page) -> str:
    page.wait_for_selector("#result:not([hidden])")
    return page.inner_text("#label")


@pytest.mark.parametrize("viewport", [_PHONE, _DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chosen_file_gets_its_verdict(open_page: Open, x_ray: Path, viewport: dict[str, int], scheme: str) -> None:
    page = open_page(viewport, scheme)
    page.set_input_files("#file", x_ray)
    expected = Classifier().predict(x_ray)
    assert _wait_for_verdict(page) == expected.label
    share = f"{100 * expected.probabilities['PNEUMONIA']:.1f} %"
    assert share in page.inner_text("#reason")
    assert expected.threshold is not None
    assert f"threshold of {100 * expected.threshold:.1f} %" in page.inner_text("#reason")
    assert re.search(rf"PNEUMONIA\s+{re.escape(share)}", page.inner_text("#probabilities"))
    assert re.search(r"inference\s+[\d.]+ ms", page.inner_text("#timings"))
    assert page.evaluate("document.getElementById('picture').decode().then(() => picture.naturalWidth)") == 900
    assert expected.label in page.inner_text("#status")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_a_label_that_is_not_to_be_taken_as_it_stands_is_remarked_on(open_page: Open, x_ray: Path) -> None:
    page = open_page()
    page.set_input_files("#file", x_ray)
    _wait_for_verdict(page)
    for remark, word, words in (
        ("uncertain", "uncertain", "Treat the label as a guess"),
        ("foreign", "out-of-distribution", "Ignore the label"),
    ):
        page.route("**/predict?explain=true", partial(_answer_with, remark))
        page.set_input_files("#file", x_ray)
        page.wait_for_selector("#remark:not([hidden])")
        assert words in page.inner_text("#remark")
        assert word in page.inner_text("#status")
        page.unroute("**/predict?explain=true")


def test_the_name_of_a_class_may_be_any_text(open_page: Open, x_ray: Path) -> None:
    page, name = open_page(_PHONE), f"<b onclick=alert(1)>{'ä' * 200}</b>"

    def answer(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "label": name, "probabilities": {name: 0.5, "PNEUMONIA": 0.5}})

    page.route("**/predict?explain=true", answer)
    page.set_input_files("#file", x_ray)
    assert _wait_for_verdict(page) == name
    assert name in page.inner_text("#probabilities")
    assert page.evaluate("document.documentElement.scrollWidth") <= _PHONE["width"]


def _answer_with(remark: str, route: Any) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "uncertain": False, "foreign": False, remark: True})


def test_a_dropped_file_gets_its_verdict(open_page: Open) -> None:
    page = open_page()
    page.evaluate("""async () => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 300;
      const picture = await new Promise((done) => canvas.toBlob(done));
      const data = new DataTransfer();
      data.items.add(new File([picture], "x.png", {type: "image/png"}));
      for (const kind of ["dragenter", "dragover", "drop"])
        document.getElementById("drop").dispatchEvent(
          new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
    }""")
    assert _wait_for_verdict(page) in ("NORMAL", "PNEUMONIA")


def test_a_text_file_is_told_what_it_is_not(open_page: Open, text_file: Path, x_ray: Path) -> None:
    page = open_page()
    page.set_input_files("#file", x_ray)
    _wait_for_verdict(page)
    page.set_input_files("#file", text_file)
    page.wait_for_selector("#error:not([hidden])")
    assert "is not an image of a supported format" in page.inner_text("#error")
    assert page.get_by_role("alert").is_visible()
    # Nothing of the image before stays beside the error.
    assert not page.is_visible("#result")
    assert page.inner_text("#status") == ""
    page.set_input_files("#file", x_ray)
    _wait_for_verdict(page)
    assert not page.is_visible("#error")


def test_a_broken_image_and_one_too_large_are_told(open_page: Open, x_ray: Path, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "cut.png").write_bytes(x_ray.read_bytes()[:500])
    page.set_input_files("#file", tmp_path / "cut.png")
    page.wait_for_selector("#error:not([hidden])")
    assert "truncated or corrupt" in page.inner_text("#error")
    with (tmp_path / "large.png").open("wb") as stream:
        stream.truncate(50_000_001)
    page.evaluate("document.getElementById('error').hidden = true")
    page.set_input_files("#file", tmp_path / "large.png")
    page.wait_for_selector("#error:not([hidden])")
    assert "the limit is 50,000,000" in page.inner_text("#error")


def test_dicom_is_judged_and_shown(open_page: Open) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    page = open_page()
    page.set_input_files("#file", pydicom.data.get_testdata_file("MR_small_RLE.dcm", download=False))
    assert _wait_for_verdict(page) in ("NORMAL", "PNEUMONIA")
    assert page.evaluate("document.getElementById('picture').decode().then(() => picture.naturalWidth)") == 64


def test_the_heatmap_can_be_taken_off(open_page: Open, serve: Any, tiny_models: Path, x_ray: Path) -> None:
    with serve("--model", tiny_models / "tiny-int8.tflite") as other:
        page = open_page(url=other.url)
        page.set_input_files("#file", x_ray)
        _wait_for_verdict(page)
        box = page.get_by_label("Heatmap")
        assert box.is_checked()
        assert "the areas that made the model answer PNEUMONIA" in page.inner_text("figcaption")
        both = page.get_attribute("#picture", "src")
        assert "heatmap" in (page.get_attribute("#picture", "alt") or "")
        box.focus()
        page.keyboard.press("Space")
        alone = page.get_attribute("#picture", "src")
        assert alone != both
        assert "heatmap" not in (page.get_attribute("#picture", "alt") or "")
        page.keyboard.press("Space")
        assert page.get_attribute("#picture", "src") == both


def test_the_keyboard_is_enough(open_page: Open, x_ray: Path) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    _choose_by_key(page, x_ray)
    _wait_for_verdict(page)
    if page.is_visible("#overlay"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "overlay"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "openapi.json"


def _choose_by_key(page: Page, file: Path) -> None:
    """Choose ``file`` in the dialog that the space bar opens; a busy browser may miss the first press."""
    from playwright.sync_api import TimeoutError as Missed

    for _ in range(3):
        try:
            with page.expect_file_chooser(timeout=10_000) as dialog:
                page.keyboard.press("Space")
        except Missed:
            continue
        dialog.value.set_files(file)
        return
    pytest.fail("the space bar opens no file dialog")


def test_what_is_seen_has_a_name(open_page: Open) -> None:
    page = open_page()
    assert page.get_by_label("Choose an X-ray").count() == 1
    assert page.get_by_text("Research software. Not a medical device.").is_visible()
    assert page.get_by_role("status").count() == 1
    assert page.evaluate("[...document.images].every((image) => image.alt)")
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(open_page: Open, text_file: Path, x_ray: Path, scheme: str) -> None:
    page = open_page(scheme=scheme)
    page.set_input_files("#file", text_file)
    page.wait_for_selector("#error:not([hidden])")
    page.evaluate("document.getElementById('result').hidden = false")
    colours = page.evaluate("""() => [...document.querySelectorAll("body *")]
      .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
      .map((e) => {
        let behind = e;
        while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [e.outerHTML.slice(0, 80), getComputedStyle(e).color, getComputedStyle(behind).backgroundColor];
      })""")
    assert len(colours) > 10
    for element, ink, paper in colours:
        assert _contrast(ink, paper) >= 4.5, (element, ink, paper)


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""
    low, high = sorted(_luminance(list(map(int, re.findall(r"\d+", colour)[:3]))) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(channels: list[int]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_asks_for_the_token(open_page: Open, serve: Any, x_ray: Path, tmp_path: Path) -> None:
    secret = "0123456789abcdef"
    (tmp_path / "token").write_text(secret)
    (tmp_path / "token").chmod(0o600)
    with serve("--token-file", tmp_path / "token") as other:
        page = open_page(url=other.url)
        field = page.get_by_label("Token")
        # An image that is given first is judged once the token is there.
        page.set_input_files("#file", x_ray)
        page.wait_for_selector("#error:not([hidden])")
        assert "token is missing or wrong" in page.inner_text("#error")
        assert page.evaluate("document.activeElement.id") == "token"
        field.fill("wrong-wrong-wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#access:not([hidden])")
        page.wait_for_selector("#error:not([hidden])")
        field.fill(f" {secret}")
        page.keyboard.press("Enter")
        assert _wait_for_verdict(page) in ("NORMAL", "PNEUMONIA")
        assert not page.is_visible("#access")
        assert not page.is_visible("#error")
        page.set_input_files("#file", x_ray)
        _wait_for_verdict(page)
        # Kept by the page alone.
        assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        page.reload()
        assert field.is_visible()
        assert secret not in other.log.read_text()


def test_without_a_token_the_page_asks_for_none(open_page: Open) -> None:
    assert not open_page().is_visible("#access")


class _Hostile(BaseHTTPRequestHandler):
    """The page of another site, which sends an image to the service."""

    target = ""

    def do_GET(self) -> None:
        page = f"<script>fetch('{self.target}predict', {{method: 'POST', mode: 'no-cors', body: 'x'}})</script>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_page_of_another_site_gets_no_verdict(browser: Browser, serve: Any, host: str) -> None:
    with serve() as service, ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as hostile:
        _Hostile.target = service.url
        threading.Thread(target=hostile.serve_forever, daemon=True).start()
        page = browser.new_page()
        # localhost and 127.0.0.1 are two sites; two ports of one host are two origins.
        page.goto(f"http://{host}:{hostile.server_port}/")
        end = time.monotonic() + 30
        while "POST /predict" not in service.log.read_text():
            assert time.monotonic() < end
            page.wait_for_timeout(20)
        page.close()
        hostile.shutdown()
        assert re.findall(r"POST /predict (\d+)", service.log.read_text()) == ["403"]


def test_the_service_going_away_is_told(browser: Browser, serve: Any, x_ray: Path) -> None:
    page = browser.new_page()
    with serve() as service:
        page.goto(service.url)
    page.set_input_files("#file", x_ray)
    page.wait_for_selector("#error:not([hidden])")
    assert "does not answer" in page.inner_text("#error")
    page.close()
