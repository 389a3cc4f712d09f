"""The JSON endpoint, over real HTTP and against a real process."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge import Classifier, __version__, bundled
from pneumo_edge.cli import app
from pneumo_edge.imaging import heatmap
from pneumo_edge.service.explanation import explain

_PAGE = ["/", "/style.css", "/script.js", "/page.js", "/icon.svg"]


def _encode(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("PNG", "application/octet-stream"), ("PNG", ""),
     ("TIFF", "image/tiff"), ("WEBP", "IMAGE/WebP; q=1")],
)  # fmt: skip
def test_the_verdict_is_the_line_of_predict(service: Any, tmp_path: Path, kind: str, media_type: str) -> None:
    data = _encode(Image.effect_noise((700, 600), 60), kind)
    answer = service.predict(data, media_type)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    (tmp_path / "x").write_bytes(data)
    line = json.loads(CliRunner().invoke(app, ["predict", str(tmp_path / "x"), "--jsonl"]).stdout)
    verdict = answer.json
    assert list(verdict) == list(line)
    assert set(verdict["timings"]) == set(line["timings"])
    for name in ("source", "timings", "total_ms"):
        del verdict[name], line[name]
    assert verdict == line


def test_dicom_is_judged_like_any_other_image(service: Any) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    data = Path(pydicom.data.get_testdata_file("MR_small_RLE.dcm", download=False)).read_bytes()
    answer = service.predict(data, "application/dicom")
    assert answer.status == 200
    assert answer.json["probabilities"] == Classifier().predict(data).probabilities


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"])
def test_an_explanation_is_there_when_it_is_asked_for(serve: Any, tiny_models: Path, file: str) -> None:
    if file.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    x_ray = Image.radial_gradient("L").resize((3000, 1500))
    data = _encode(x_ray, "PNG")
    with serve("--model", tiny_models / file) as service:
        verdict = service.predict(data, query="?explain=true").json
        assert "explanation" not in service.predict(data).json
        assert "explanation" not in service.predict(data, query="?explain=false").json
        assert service.predict(data, query="?explain=perhaps").status == 422
    expected = Classifier(tiny_models / file).predict(data, explain=True)
    assert expected.heatmap is not None
    assert verdict["explanation"]["heatmap"] == expected.heatmap.tolist()
    small = x_ray.resize((1024, 512))
    for name, picture in (("x_ray", small), ("overlay", heatmap.draw(small, expected.heatmap))):
        kind, _, encoded = verdict["explanation"][name].partition(",")
        assert kind == "data:image/jpeg;base64"
        shown = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert (shown.size, shown.mode) == (picture.size, picture.mode)
        difference = np.abs(np.asarray(shown, np.float32) - np.asarray(picture, np.float32))
        assert difference.mean() < 2


def test_a_model_without_a_heatmap_shows_the_x_ray_alone(encode: Callable[..., bytes]) -> None:
    prediction = Classifier().predict(encode(Image.new("L", (300, 200), 90)))
    shown = explain(encode(Image.new("L", (300, 200), 90)), replace(prediction, heatmap=None), 100_000)
    assert (shown.overlay, shown.heatmap) == (None, None)
    assert shown.x_ray.startswith("data:image/jpeg;base64,")


def test_health_names_what_judges(service: Any) -> None:
    answer = service.ask("GET", "/healthz")
    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert answer.json["model"] == f"{bundled.DEFAULT}-int8"
    assert re.fullmatch("[0-9a-f]{64}", answer.json["sha256"])


def test_another_model_may_be_named(serve: Any, png: bytes) -> None:
    with serve("--model", "efficientnetb0", "--engine", "litert", "--threads", 2, "--workers", 2) as service:
        health = service.ask("GET", "/healthz").json
        verdict = service.predict(png).json
    assert (health["model"], health["engine"]) == ("efficientnetb0-int8", "litert")
    assert verdict["probabilities"] == pytest.approx(Classifier("efficientnetb0").predict(png).probabilities)


def test_answers_have_the_fields_that_are_described_and_no_others(service: Any, png: bytes) -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="schemathesis is not installed")
    description = service.ask("GET", "/openapi.json").json
    assert description["info"]["version"] == __version__
    answers = {
        "Prediction": service.predict(png).json,
        "Explanation": service.predict(png, query="?explain=true").json["explanation"],
        "Health": service.ask("GET", "/healthz").json,
        "Problem": service.predict(b"nothing").json,
    }
    for name, answer in answers.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
        jsonschema_rs.validate(schema, answer)
        assert set(description["components"]["schemas"][name]["required"]) == set(answer)
        for field in answer:
            with pytest.raises(jsonschema_rs.ValidationError):
                jsonschema_rs.validate(schema, {key: value for key, value in answer.items() if key != field})


# What cannot be judged


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "media_type", "status", "words"),
    [
        (b"nothing that is an image", "image/png", 415, "this is not an image"),
        (b"nothing that is an image", "text/plain", 415, "the Content-Type is not that of an image"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415, "Send only the image"),
        (b"", "image/png", 422, "the body is empty"),
        (_cut(_encode(Image.effect_noise((300, 250), 60), "PNG")), "image/png", 422, "truncated or corrupt"),
        (_encode(Image.new("L", (20, 300)), "PNG"), "image/png", 422, "at least 28 pixels a side"),
        (_encode(Image.new("I;16", (300, 300)), "PNG"), "image/png", 422, "more than 8 bits"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_a_reason(
    service: Any, data: bytes, media_type: str, status: int, words: str
) -> None:
    answer = service.predict(data, media_type)
    assert answer.status == answer.json["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json["detail"]
    assert service.predict(_encode(Image.new("L", (300, 300)), "PNG")).status == 200


def test_an_encoded_body_is_refused(service: Any, png: bytes) -> None:
    answer = service.predict(png, Content_Encoding="gzip")
    assert answer.status == 415
    assert "Content-Encoding" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/predict", 405), ("PUT", "/x.png", 404)]
)
def test_what_is_not_there_is_told_in_json(service: Any, method: str, path: str, status: int) -> None:
    answer = service.ask(method, path)
    assert answer.status == answer.json["status"] == status
    assert "/openapi.json" in answer.json["detail"]


def test_what_is_no_http_does_not_end_the_service(service: Any, png: bytes) -> None:
    with socket.create_connection(service.address) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00nonsense\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    assert service.predict(png).status == 200


# Headers


@pytest.mark.parametrize("path", [*_PAGE, "/healthz", "/openapi.json", "/nowhere", "/predict"])
def test_every_answer_is_kept_to_itself(service: Any, path: str) -> None:
    headers = service.ask("GET", path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert not {"server", "access-control-allow-origin"} & set(headers)


@pytest.mark.parametrize("path", _PAGE)
def test_the_page_takes_nothing_from_elsewhere(service: Any, path: str) -> None:
    text = service.ask("GET", path).body.decode().replace("http://www.w3.org/2000/svg", "")
    assert "//" not in re.sub(r"^\s*// .*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"""(src|href|action)=["'](?!(style\.css|script\.js|icon\.svg|openapi\.json)["'])""", text)


def test_an_image_for_which_the_model_gives_nan_is_one_problem(
    serve: Any, encode: Callable[..., bytes], nan_on_black: Path
) -> None:
    with serve("--model", nan_on_black) as service:
        black = service.predict(encode(Image.new("L", (40, 40))))
        assert black.status == 422
        assert "gave [nan, nan] on onnxruntime" in black.json["detail"]
        assert service.predict(encode(Image.new("L", (40, 40), 200))).json["label"] == "PNEUMONIA"
        assert "threshold of this model was chosen on PHANTOM images" in service.log.read_text()
        page = service.ask("GET", "/").body.decode()
        assert "threshold chosen on PHANTOM images" in page and "trained on" not in page
