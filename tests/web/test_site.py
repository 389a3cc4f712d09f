"""The site in a real browser, behind a static web server."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge.imaging import images
from pneumo_edge.web import build
from tests.web.serving import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

_PHONE, _DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
_MODELS = ("tiny-int8.tflite", "tiny-fp32.tflite", "tiny-fp32.onnx")
Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Open]:
    """Open the site; the browser must have had nothing to complain of, and asked no other address."""
    opened: list[BrowserContext] = []
    complaints: list[str] = []

    def open_with(
        viewport: dict[str, int] = _DESKTOP, scheme: str = "light", ready: bool = True, url: str = ""
    ) -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        opened.append(context)
        address = url or server.url
        context.on("request", lambda asked: None if asked.url.startswith(address) else complaints.append(asked.url))
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(address)
        if ready:
            page.wait_for_selector("body[data-ready]")
        return page

    yield open_with
    for context in opened:
        context.close()
    assert complaints == []


def _png(path: Path, size: tuple[int, int] = (900, 700)) -> Path:
    Image.radial_gradient("L").resize(size).save(path)
    return path


def _shown(page: Page, path: Path) -> str:
    page.set_input_files("#file", path)
    page.wait_for_selector("#result:not([hidden])")
    return page.inner_text("#label")


@pytest.mark.parametrize(("viewport", "scheme"), [(_PHONE, "dark"), (_DESKTOP, "light")])
def test_a_chosen_file_gets_its_answer(
    open_page: Open, tiny_models: Path, tmp_path: Path, viewport: dict[str, int], scheme: str
) -> None:
    page, path = open_page(viewport, scheme), _png(tmp_path / "x-ray.png")
    expected = Classifier(tiny_models / _MODELS[0]).predict(path)
    assert _shown(page, path) == expected.label
    share = re.search(r"Probability of PNEUMONIA ([\d.]+) %", page.inner_text("#reason"))
    assert share
    assert abs(float(share[1]) / 100 - expected.probabilities["PNEUMONIA"]) <= 0.005
    assert "threshold of 50.0 %" in page.inner_text("#reason")
    assert expected.label in page.inner_text("#status")
    assert re.search(r"inference\s+[\d.]+ ms", page.inner_text("#timings"))
    assert "2 threads" in page.inner_text("#runtime") or "1 thread" in page.inner_text("#runtime")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    picture = page.get_by_role("img", name="The classified X-ray with the heatmap over it")
    assert picture.evaluate("canvas => [canvas.width, canvas.height]") == [900, 700]
    page.get_by_role("checkbox", name="Heatmap").uncheck()
    assert page.get_by_role("img", name="The classified X-ray", exact=True).is_visible()


# Calls the worker as the page does.
_ASK = """async ([name, threads, kind, files]) => {
  const site = await (await fetch("models.json")).json();
  const worker = new Worker("worker.js");
  const ask = (kind, argument) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ("result" in data ? resolve(data.result) : reject(new Error(data.error)));
    worker.onerror = reject;
    worker.postMessage({ id: 0, kind, argument });
  });
  const model = site.models.find((each) => each.name === name);
  await ask("open", { model, limits: site.limits, threads: threads || undefined });
  // As text: the way out of the browser is slow for arrays.
  const text = (bytes) => btoa(bytes.reduce((sum, byte) => sum + String.fromCharCode(byte), ""));
  const plain = (key, value) => {
    if (value instanceof Uint8Array) return text(value);
    return ArrayBuffer.isView(value) ? Array.from(value) : value;
  };
  const answers = [];
  for (const file of files) {
    const bytes = Uint8Array.from(atob(file), (each) => each.charCodeAt(0)).buffer;
    answers.push(await ask(kind, bytes).catch((error) => ({ error: error.message })));
  }
  worker.terminate();
  return JSON.stringify(answers.map(({ picture, ...others }) => others), plain);
}"""


def _ask(page: Page, model: str, kind: str, files: list[bytes], threads: int = 0) -> list[dict[str, Any]]:
    contents = [base64.b64encode(content).decode() for content in files]
    found: list[dict[str, Any]] = json.loads(page.evaluate(_ASK, [model, threads, kind, contents]))
    return found


def _pixels(image: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Pixels of shape (height, width), as integers that may be subtracted."""
    grey = np.frombuffer(base64.b64decode(image["pixels"]), np.uint8)
    return grey.reshape(image["height"], image["width"]).astype(int)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _pictures() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (20, 25, 3)).astype(np.uint8)).resize((500, 400))
    grey = rgb.convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "grey PNG": _encoded(grey, "PNG"),
        "RGB PNG": _encoded(rgb, "PNG"),
        "palette PNG": _encoded(rgb.quantize(64), "PNG"),
        "opaque RGBA PNG": _encoded(rgb.convert("RGBA"), "PNG"),
        "1-bit PNG": _encoded(grey.convert("1"), "PNG"),
        "gamma PNG": _with_gamma(_encoded(grey, "PNG")),
        "grey JPEG": _encoded(grey, "JPEG", quality=90),
        "RGB JPEG": _encoded(rgb, "JPEG", quality=90),
        "subsampled JPEG": _encoded(rgb, "JPEG", quality=80, subsampling=2),
        "progressive JPEG": _encoded(grey, "JPEG", progressive=True),
        "turned JPEG": _encoded(grey, "JPEG", exif=turned),
    }


def _with_gamma(png: bytes) -> bytes:
    """The same PNG with a gAMA chunk, which colour management would apply."""
    import zlib

    body = b"gAMA" + (100_000).to_bytes(4)
    return png[:33] + (4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4) + png[33:]


@pytest.mark.slow
def test_pixels_are_those_of_python(open_page: Open) -> None:
    pictures = _pictures()
    page = open_page()
    for (kind, content), found in zip(
        pictures.items(), _ask(page, _MODELS[0], "pixels", list(pictures.values())), strict=True
    ):
        grey = images.decode(content)
        for stage, expected in (("decoded", grey), ("resized", images.resize(grey, 224, 224))):
            got = _pixels(found[stage])
            assert got.shape == expected.size[::-1], kind
            difference = np.abs(got - np.asarray(expected, int))
            assert difference.max() <= 1, f"{kind}, {stage}: {difference.max()}"


@pytest.mark.slow
@pytest.mark.parametrize("model", _MODELS)
def test_answers_are_those_of_python(open_page: Open, tiny_models: Path, model: str) -> None:
    classifier, pictures = Classifier(tiny_models / model), list(_pictures().values())
    page = open_page()
    # The service worker has isolated the page, although the server sends no such header.
    assert page.evaluate("self.crossOriginIsolated")
    for threads in (1, 2):
        _check_answers(page, classifier, pictures, threads)


def _check_answers(page: Page, classifier: Classifier, pictures: list[bytes], threads: int) -> None:
    model = classifier.path.name
    for content, found in zip(pictures, _ask(page, model, "classify", pictures, threads), strict=True):
        expected = classifier.predict(content, explain=True)
        assert found["label"] == expected.label
        difference = np.abs(np.array(found["probabilities"]) - list(expected.probabilities.values()))
        assert difference.max() <= 0.005
        assert expected.heatmap is not None
        np.testing.assert_allclose(found["heatmap"]["values"], expected.heatmap.ravel(), atol=0.1)


def test_dicom_is_read_as_in_python(open_page: Open) -> None:
    files = list(_dicom_files().values())
    page = open_page()
    for (kind, content), found in zip(_dicom_files().items(), _ask(page, _MODELS[0], "pixels", files), strict=True):
        expected = np.asarray(images.decode(content), int)
        assert "error" not in found, f"{kind}: {found}"
        difference = np.abs(_pixels(found["decoded"]) - expected)
        assert difference.max() <= 1, kind
    # An element that states its kind, and one that does not, which the parser does not check.
    broken = [_dicom_files()[kind][:-100] for kind in ("windowed", "no window")]
    broken.append(_dicom_files()["sigmoid"].replace(b"SIGMOID", b"UNKNOWN"))
    assert ["DICOM" in found["error"] for found in _ask(page, _MODELS[0], "pixels", broken)] == [True] * 3


def _dicom_files() -> dict[str, bytes]:
    pydicom: Any = pytest.importorskip("pydicom")
    y, x = np.mgrid[0:60, 0:80]
    shades = (x * 30 + y * 20).astype(np.uint16)
    found = {}
    kinds: dict[str, dict[str, Any]] = {
        "windowed": {"WindowCenter": 1500, "WindowWidth": 2000},
        "no window": {},
        "inverted": {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1500, "WindowWidth": 2000},
        "sigmoid": {"WindowCenter": 1500, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"},
        "rescaled": {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 1000, "WindowWidth": 3000},
        "signed": {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15},
    }
    for kind, changes in kinds.items():
        data = pydicom.Dataset()
        data.Rows, data.Columns, data.SamplesPerPixel, data.BitsAllocated = 60, 80, 1, 16
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
        data.PhotometricInterpretation = "MONOCHROME2"
        for name, value in changes.items():
            setattr(data, name, value)
        pixels = shades.astype(np.int16) - 1500 if kind == "signed" else shades
        data.PixelData = pixels.tobytes()
        data["PixelData"].VR = "OW"
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if kind == "no window" else pydicom.uid.ExplicitVRLittleEndian
        )
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
        found[kind] = stream.getvalue()
    return found


def _damaged() -> dict[str, bytes]:
    """Fifty files that are no whole image."""
    pictures, random = _pictures(), np.random.default_rng(1)
    found = {"empty": b"", "text": b"no X-ray", "zeros": bytes(5000), "GIF": _encoded(Image.new("L", (99, 99)), "GIF")}
    found["16 bits"] = _encoded(Image.fromarray(np.arange(10_000, dtype=np.uint16).reshape(100, 100)), "PNG")
    found["transparent"] = _encoded(Image.new("RGBA", (99, 99), (9, 9, 9, 0)), "PNG")
    found["tiny"] = _encoded(Image.new("L", (20, 20)), "PNG")
    found["CMYK"] = _encoded(Image.new("CMYK", (99, 99)), "JPEG")
    found["several frames"] = _encoded(
        Image.new("L", (99, 99)), "PNG", save_all=True, append_images=[Image.new("L", (99, 99), 9)]
    )
    found["DICOM"] = bytes(128) + b"DICM" + random.bytes(500)
    for kind in ("grey PNG", "RGB PNG", "palette PNG", "grey JPEG", "RGB JPEG", "progressive JPEG"):
        content = pictures[kind]
        for share in (0.02, 0.3, 0.6, 0.9, 0.99):
            found[f"{kind}, {share:.0%}"] = content[: int(len(content) * share)]
    for kind in ("grey PNG", "RGB PNG"):
        for place in (0.1, 0.3, 0.5, 0.7, 0.9):
            at = int(len(pictures[kind]) * place)
            found[f"{kind}, changed at {at}"] = pictures[kind][:at] + b"\x55\xaa\x55" + pictures[kind][at + 3 :]
    assert len(found) == 50
    return found


@pytest.mark.slow
def test_each_damaged_file_ends_in_one_sentence(open_page: Open) -> None:
    files = _damaged()
    page = open_page()
    for kind, found in zip(files, _ask(page, _MODELS[0], "classify", list(files.values())), strict=True):
        assert set(found) == {"error"}, kind
        assert re.fullmatch(r"[A-Z][^\n]{10,200}\.", found["error"]), f"{kind}: {found['error']}"


def test_several_files_at_a_time_are_refused(open_page: Open, tmp_path: Path) -> None:
    page, path = open_page(), _png(tmp_path / "x-ray.png")
    _shown(page, path)
    page.evaluate("""() => {
      const data = new DataTransfer();
      for (const name of ["a.png", "b.png"]) data.items.add(new File(["x"], name));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
    }""")
    assert page.inner_text("#error") == "2 files were given. Give one X-ray at a time."
    assert not page.is_visible("#result")


def test_a_site_that_was_built_again_is_shown(
    open_page: Open, tiny_models: Path, modules: Path, tmp_path: Path
) -> None:
    # The name of a file is no address as it is.
    odd = shutil.copy(tiny_models / "tiny-fp32.onnx", tmp_path / "100%25 #1?.onnx")
    folder = build.build([odd, tiny_models / "tiny-fp32.onnx"], tmp_path / "site", modules).folder
    other = Server(folder)
    page = open_page(url=other.url)
    used = page.context.new_page()
    used.goto(other.url)
    used.wait_for_selector("body[data-ready='100%25 #1?.onnx']")
    _shown(used, _png(tmp_path / "x-ray.png"))
    build.build([tiny_models / "tiny-int8.tflite"], folder, modules)
    page.reload()
    page.wait_for_selector("body[data-ready='tiny-int8.tflite']")
    used.wait_for_selector("#error:not([hidden])")
    assert "newer version of this page" in used.inner_text("#error")
    assert used.is_visible("#result")
    other.stop()


def test_an_error_replaces_the_answer_before(open_page: Open, tmp_path: Path) -> None:
    page, path, letter = open_page(), _png(tmp_path / "x-ray.png"), tmp_path / "letter.txt"
    letter.write_text("no X-ray")
    _shown(page, path)
    page.set_input_files("#file", letter)
    page.wait_for_selector("#error:not([hidden])")
    assert "This is not a JPEG, PNG or DICOM file" in page.get_by_role("alert").inner_text()
    assert not page.is_visible("#result")
    _shown(page, path)
    assert not page.is_visible("#error")


def test_it_works_without_the_server_after_the_first_visit(
    open_page: Open, server: Server, tmp_path: Path, tiny_models: Path
) -> None:
    page, path = open_page(), _png(tmp_path / "x-ray.png")
    server.stop()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert _shown(page, path) == Classifier(tiny_models / _MODELS[0]).predict(path).label


def test_a_model_that_was_not_used_before_needs_the_server(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    server.stop()
    page.get_by_label("Model").select_option(label="tiny-fp32.onnx")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error").startswith("The model file tiny-fp32.onnx is not kept in this browser yet.")
    page.get_by_label("Model").select_option(label="tiny-int8.tflite")
    page.wait_for_selector("body[data-ready='tiny-int8.tflite']")
    assert not page.is_visible("#error")
    context.close()


def test_another_model_can_be_chosen(open_page: Open, tmp_path: Path) -> None:
    page, path = open_page(), _png(tmp_path / "x-ray.png")
    _shown(page, path)
    page.get_by_label("Model").select_option(label="tiny-fp32.onnx")
    page.wait_for_selector("body[data-ready='tiny-fp32.onnx']")
    # Nothing of the other model stays.
    assert not page.is_visible("#result")
    assert "onnxruntime-web" in page.inner_text("#runtime")
    _shown(page, path)


def test_the_keyboard_is_enough(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    _shown(page, _png(tmp_path / "x-ray.png"))
    page.get_by_role("checkbox", name="Heatmap").focus()
    page.keyboard.press("Space")
    assert not page.get_by_role("checkbox", name="Heatmap").is_checked()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    reached = []
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    # Between them is the choice of the GPU, where the browser has WebGPU.
    assert "model" in reached


@pytest.fixture
def altered(site: Path, tmp_path: Path) -> Path:
    """A copy of the site, to be changed."""
    return Path(shutil.copytree(site, tmp_path / "altered"))


def test_a_browser_that_answers_otherwise_is_refused(open_page: Open, altered: Path) -> None:
    listed = json.loads((altered / "models.json").read_text())
    for case in listed["models"][0]["cases"]:
        case["probabilities"] = case["probabilities"][::-1]
    (altered / "models.json").write_text(json.dumps(listed))
    other = Server(altered)
    page = open_page(ready=False, url=other.url)
    page.wait_for_selector("#error:not([hidden])")
    assert "gives other answers than Python in this browser" in page.inner_text("#error")
    assert page.evaluate("document.getElementById('drop').inert")
    other.stop()


def test_a_damaged_model_is_refused(open_page: Open, altered: Path) -> None:
    path = altered / "models" / _MODELS[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    other = Server(altered)
    page = open_page(ready=False, url=other.url)
    page.wait_for_selector("#error:not([hidden])")
    assert f"{_MODELS[0]} is damaged" in page.inner_text("#error")
    other.stop()
