"""The OpenAPI description of the service, with schemas generated from the dataclasses of its answers."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pneumo_edge import __version__
from pneumo_edge._util import records
from pneumo_edge.runtime.classifier import REMARKS, Prediction
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.service import problems
from pneumo_edge.service.explanation import Explanation
from pneumo_edge.service.limits import Limits

PREDICT, METRICS, HEALTH, READY, DESCRIPTION = "/predict", "/metrics", "/healthz", "/readyz", "/openapi.json"
#: The parameter that requests an explanation, and the field of the answer that has it.
EXPLAIN, EXPLANATION = "explain", "explanation"
#: Content types that a request may have. The actual type is detected from the content.
MEDIA_TYPES = (
    "image/jpeg", "image/png", "application/dicom", "image/bmp", "image/gif", "image/tiff", "image/webp",
    "application/octet-stream",
)  # fmt: skip


#: Reasons to refuse a request before its body is read.
_OTHER_SITE = {HTTPStatus.FORBIDDEN: "The request names another host, or comes from another site's page."}
_UNKNOWN = {HTTPStatus.UNAUTHORIZED: "The token is missing or wrong."}
_NO_ROOM = "No room for another image now."


def describe(limits: Limits, needs_token: bool = False) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of a service with these limits."""
    unknown = _UNKNOWN if needs_token else {}
    secured: dict[str, Any] = {"security": [{"token": []}]} if needs_token else {}
    components: dict[str, Any] = {"schemas": _schemas()}
    if needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pneumo-edge",
            "version": __version__,
            "description": "Classifies images on a device. Research software; not a medical device.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            PREDICT: {"post": {**_predict(_OTHER_SITE | unknown | _body_refusals(limits)), **secured}},
            METRICS: {"get": {**_metrics(_OTHER_SITE | unknown), **secured}},
            HEALTH: {"get": _health()},
            READY: {"get": _ready()},
        },
        "components": components,
    }


def _body_refusals(limits: Limits) -> dict[HTTPStatus, str]:
    seconds = f"{limits.seconds:g} seconds"
    return {
        HTTPStatus.BAD_REQUEST: "The body has far more chunk framing than content.",
        HTTPStatus.REQUEST_TIMEOUT: f"The body did not arrive within {seconds}, or at less than "
        f"{limits.rate:g} bytes a second.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"More than {limits.body:,} bytes or {limits.pixels:,} pixels.",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Not an image of a supported type.",
        HTTPStatus.UNPROCESSABLE_ENTITY: "An image that cannot be classified, or a wrong parameter.",
        HTTPStatus.SERVICE_UNAVAILABLE: _NO_ROOM,
        HTTPStatus.GATEWAY_TIMEOUT: f"Not classified within {seconds}.",
        HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed.",
        HTTPStatus.NOT_IMPLEMENTED: "The body has a transfer coding other than chunks.",
    }


def _predict(refusals: Mapping[HTTPStatus, str]) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Classify one image.",
        "description": "The answer is the JSON document that `pneumo-edge predict --jsonl` prints.",
        "parameters": [
            {
                "name": EXPLAIN,
                "in": "query",
                "description": f"Whether to add the field `{EXPLANATION}`: pictures, and the heatmap.",
                "schema": {"type": "boolean", "default": False},
            }
        ],
        "requestBody": {
            "description": "The image file itself: JPEG, PNG, DICOM (with the extra `dicom`), BMP, TIFF, "
            "WebP or single-frame GIF. Its content decides, not its Content-Type.",
            "required": True,
            "content": {media_type: {"schema": {}} for media_type in MEDIA_TYPES},
        },
        "responses": {"200": _answer("The prediction.", "Prediction"), **_refusals(refusals)},
    }


def _metrics(refusals: Mapping[HTTPStatus, str]) -> dict[str, Any]:
    return {
        "operationId": "metrics",
        "summary": "Metrics of the service in Prometheus's text format.",
        "responses": {
            "200": {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **_refusals(refusals),
        },
    }


def _health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Whether the service is up, with its model and engine.",
        "responses": {"200": _answer("It is up.", "Health"), **_refusals(_OTHER_SITE)},
    }


def _ready() -> dict[str, Any]:
    return {
        "operationId": "ready",
        "summary": "Whether the service would accept an image now.",
        "responses": {
            "200": _answer("It would.", "Ready"),
            **_refusals(_OTHER_SITE | {HTTPStatus.SERVICE_UNAVAILABLE: _NO_ROOM}),
        },
    }


def _schemas() -> dict[str, Any]:
    return {
        "Prediction": _verdict(),
        "Explanation": records.schema(Explanation),
        "Health": _with(records.schema(PredictorIdentity), status={"const": "ok"}),
        "Ready": {
            "type": "object",
            "properties": {"status": {"const": "ready"}},
            "required": ["status"],
            "additionalProperties": False,
        },
        "Problem": records.schema(problems.Problem),
    }


def _verdict() -> dict[str, Any]:
    """Return the schema of ``Prediction.to_dict``, with the optional explanation."""
    derived = {
        name: records.schema(typing.get_type_hints(getattr(Prediction, name).fget)["return"]) for name in REMARKS
    }
    total = {"type": "number", "description": "The sum of the timings, in milliseconds."}
    schema = _with(records.schema(Prediction, without=("heatmap",)), **derived, total_ms=total)
    schema["properties"][EXPLANATION] = {"$ref": "#/components/schemas/Explanation"}
    return schema


def _with(schema: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {
        **schema,
        "properties": {**schema["properties"], **properties},
        "required": [*schema["required"], *properties],
    }


def _answer(description: str, schema: str, media_type: str = "application/json") -> dict[str, Any]:
    return {
        "description": description,
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _refusals(texts: Mapping[HTTPStatus, str]) -> dict[str, Any]:
    responses = {str(int(status)): _answer(text, "Problem", problems.MEDIA_TYPE) for status, text in texts.items()}
    busy = str(int(HTTPStatus.SERVICE_UNAVAILABLE))
    if busy in responses:
        responses[busy]["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer"}}
        }
    return responses
