"""The service as an ASGI application, for any server that speaks ASGI."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPMethod, HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pneumo_edge.errors import ImageError
from pneumo_edge.runtime.batch import Workers
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.judge import Judge
from pneumo_edge.service import openapi, page, problems
from pneumo_edge.service.explanation import explain
from pneumo_edge.service.limits import Limits
from pneumo_edge.service.problems import RequestError
from pneumo_edge.spec import HEATMAP

log = logging.getLogger(__name__)

#: Nothing from elsewhere, nothing inline, nothing kept, and no other page may look in.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SEND = 'Send the image alone: curl --header "Content-Type: image/jpeg" --data-binary @x-ray.jpeg'
_LATER = "Send it again later"


def create_app(classifier: Classifier, workers: int = 1, limits: Limits | None = None) -> Starlette:
    """The service as an ASGI application.

    Args:
        classifier: What judges; it should have been made with ``max_pixels=limits.pixels``.
        workers: How many images are judged at a time, at least 1.
        limits: What it takes on at most.
    """
    judge = Judge.of(classifier)
    limits = limits or Limits()
    description = openapi.describe(limits)
    desk = _Desk(classifier, workers, limits)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **asdict(judge)})

    async def describe(request: Request) -> Response:
        return JSONResponse(description)

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    routes = [
        Route(openapi.PREDICT, desk.predict, methods=["POST"]),
        Route(openapi.HEALTH, health),
        Route(openapi.DESCRIPTION, describe),
        *(Route(path, functools.partial(_send_file, file)) for path, file in page.render(classifier, limits).items()),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Frame, paths=frozenset(route.path for route in routes))],
        exception_handlers={RequestError: _refuse, ImageError: _refuse_image, HTTPException: _refuse_route},
        lifespan=closing,
    )


async def _send_file(file: page.File, request: Request) -> Response:
    return Response(file.content, media_type=file.media_type)


@dataclass(frozen=True)
class _Job:
    image: bytes
    wants_explanation: bool


def _judge(classifier: Classifier, job: _Job) -> dict[str, Any]:
    """The answer to a request, in a worker."""
    has_heatmap = classifier.spec.output(HEATMAP) is not None
    prediction = classifier.predict(job.image, explain=job.wants_explanation and has_heatmap)
    answer = prediction.to_dict()
    if job.wants_explanation:
        answer[openapi.EXPLANATION] = asdict(explain(job.image, prediction, classifier.max_pixels))
    return answer


class _Desk:
    """Takes images in, within the limits, and lets the workers judge them."""

    def __init__(self, classifier: Classifier, workers: int, limits: Limits) -> None:
        classifiers = (classifier, *(classifier.copy() for _ in range(workers - 1)))
        self._workers = Workers([functools.partial(_judge, each) for each in classifiers])
        self._limits = limits
        self._room = workers + limits.waiting

    def close(self) -> None:
        self._workers.close()

    async def predict(self, request: Request) -> Response:
        """Judge the image in the body of a request."""
        _check_headers(request)
        wants_explanation = _is_asked_for(request, openapi.EXPLAIN)
        if self._room <= 0:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, "as many images are being judged or waiting as there is room for",
                "a free place", _LATER, {"Retry-After": "1"},
            )  # fmt: skip
        self._room -= 1
        judged: Future[dict[str, Any]] | None = None
        try:
            judged = self._workers.submit(_Job(await self._read(request), wants_explanation))
        finally:
            if judged:
                # A thread cannot be stopped: it keeps its place after its time is up, until it is done.
                loop = asyncio.get_running_loop()
                judged.add_done_callback(lambda _: loop.call_soon_threadsafe(self._make_room))
            else:
                self._make_room()
        return JSONResponse(await self._wait_for(judged))

    def _make_room(self) -> None:
        self._room += 1

    async def _read(self, request: Request) -> bytes:
        """The body of a request, in memory."""
        most, parts, length = self._limits.body, [], 0
        try:
            async with asyncio.timeout(self._limits.seconds):
                if int(request.headers.get("content-length", 0)) > most:
                    raise _too_large(most)
                async for part in request.stream():
                    parts.append(part)
                    length += len(part)
                    if length > most:
                        raise _too_large(most)
        except TimeoutError:
            raise RequestError(
                HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {self._limits.seconds:g} seconds",
                "a faster connection, or a smaller image", _LATER, {"Connection": "close"},
            ) from None  # fmt: skip
        if not length:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "the body is empty", "an image", _SEND)
        return b"".join(parts)

    async def _wait_for(self, judged: Future[dict[str, Any]]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.wrap_future(judged)
        except TimeoutError:
            raise RequestError(
                HTTPStatus.GATEWAY_TIMEOUT, f"there was no verdict within {self._limits.seconds:g} seconds",
                "a smaller image, or fewer at a time", _LATER,
            ) from None  # fmt: skip


def _check_headers(request: Request) -> None:
    """Refuse by its headers what is no image, before its body is read."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in openapi.MEDIA_TYPES:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the Content-Type is not that of an image",
            f"one of {', '.join(openapi.MEDIA_TYPES)}", _SEND,
        )  # fmt: skip
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body has a Content-Encoding", "an image as it is", _SEND
        )


def _is_asked_for(request: Request, name: str) -> bool:
    values = request.query_params.getlist(name)
    if any(value not in ("true", "false") for value in values):
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"the parameter {name} is something else", "true or false", "Leave it out"
        )
    return values[-1:] == ["true"]


def _too_large(most: int) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", f"at most {most:,} bytes",
        "Save the image at a lower resolution",
    )  # fmt: skip


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return problems.respond(error.status, str(error), error.headers)


def _refuse_image(request: Request, error: Exception) -> Response:
    assert isinstance(error, ImageError)
    return problems.respond(problems.status_of(error), str(error))


def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = f"what {openapi.DESCRIPTION} describes"
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at this path; expected {known}. Check the path.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"this path does not take the method; expected {known}. Use another method.",
    }.get(HTTPStatus(error.status_code), error.detail)
    return problems.respond(error.status_code, detail, error.headers)


class _Frame:
    """Puts the headers on every response, writes the log, and lets no exception out.

    The log has the method, the path where it is one of the service's own, the status and the time: nothing that was
    sent. ``curl --upload-file`` puts a file's name into the path, for one.
    """

    def __init__(self, app: ASGIApp, paths: frozenset[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("%s: the client went away", self._name(scope))
            return
        except Exception as error:
            # Where, and not what: the text of an exception may quote what was sent.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error(
                "%s: %s, which is a bug or a broken model file\n%s", self._name(scope), type(error).__name__, where
            )
            if not status:
                detail = "the service failed; expected a verdict. Look at its log, and report it."
                await problems.respond(HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, receive, send_with_headers)
        log.info("%s %d %.0f ms", self._name(scope), status, 1000 * (time.perf_counter() - begun))

    def _name(self, scope: Scope) -> str:
        method, path = scope["method"], scope["path"]
        return (
            f"{method if method in set(HTTPMethod) else 'METHOD'} {path if path in self._paths else '(another path)'}"
        )
