"""The service as an ASGI application, for any ASGI server."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pneumo_edge.errors import ImageError
from pneumo_edge.runtime.batch import Workers
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.service import openapi, page, problems
from pneumo_edge.service.arrivals import Arrivals
from pneumo_edge.service.explanation import explain
from pneumo_edge.service.frame import Frame
from pneumo_edge.service.guard import Addresses, Guard, Token
from pneumo_edge.service.limits import Limits
from pneumo_edge.service.metrics import MEDIA_TYPE, Metrics
from pneumo_edge.service.problems import LATER, SEND, RequestError
from pneumo_edge.spec import HEATMAP


def create_app(
    classifier: Classifier,
    workers: int = 1,
    limits: Limits | None = None,
    addresses: Addresses | None = None,
    token: Token | None = None,
) -> Starlette:
    """Make the service as an ASGI application.

    :func:`pneumo_edge.service.server.run` limits the number and the time of connections; another server must do so
    itself.

    Args:
        classifier: The classifier; make it with ``max_pixels=limits.pixels``.
        workers: How many images are classified at a time, at least 1.
        limits: Limits of the service.
        addresses: The host names that requests may use; by default those of this machine only.
        token: The token that clients must send to classify an image or to read the metrics, or None.

    Returns:
        The application; its ``state.metrics`` are the :class:`~pneumo_edge.service.metrics.Metrics`.
    """
    predictor = PredictorIdentity.of(classifier)
    limits = limits or Limits()
    description = openapi.describe(limits, token is not None)
    desk = _Desk(classifier, workers, limits)
    metrics = _make_metrics(predictor, desk)
    desk.count_prediction = metrics.count_prediction

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    files = page.render(classifier, limits, token is not None)
    routes = [
        *_make_routes(predictor, desk, metrics, description),
        *(Route(path, functools.partial(_send_file, file)) for path, file in files.items()),
    ]
    # These reveal nothing about images; browsers and orchestrators request them without a token.
    open_paths = frozenset((*files, openapi.HEALTH, openapi.READY, openapi.DESCRIPTION))
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Frame, paths=frozenset(route.path for route in routes), answered=metrics.answered),
            Middleware(Guard, addresses=addresses or Addresses(None), token=token, open_paths=open_paths),
        ],
        exception_handlers={RequestError: _refuse, HTTPException: _refuse_route},
        lifespan=closing,
    )
    app.state.metrics = metrics
    return app


def _make_metrics(predictor: PredictorIdentity, desk: _Desk) -> Metrics:
    return Metrics(
        predictor,
        {
            ("places", "Images that are accepted at a time: being classified or waiting."): lambda: desk.places,
            ("places_free", "Images that would be accepted now."): lambda: desk.free,
            ("arriving_bytes", "Memory of arriving bodies."): lambda: desk.arrivals.bytes,
        },
    )


def _make_routes(
    predictor: PredictorIdentity, desk: _Desk, metrics: Metrics, description: dict[str, Any]
) -> list[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **asdict(predictor)})

    async def ready(request: Request) -> Response:
        desk.check_capacity()
        return JSONResponse({"status": "ready"})

    async def tell_metrics(request: Request) -> Response:
        return Response(metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    async def describe(request: Request) -> Response:
        return JSONResponse(description)

    return [
        Route(openapi.PREDICT, desk.predict, methods=["POST"]),
        Route(openapi.METRICS, tell_metrics),
        Route(openapi.HEALTH, health),
        Route(openapi.READY, ready),
        Route(openapi.DESCRIPTION, describe),
    ]


async def _send_file(file: page.File, request: Request) -> Response:
    return Response(file.content, media_type=file.media_type)


@dataclass(frozen=True)
class _Job:
    image: bytes
    wants_explanation: bool


def _predict(classifier: Classifier, job: _Job) -> dict[str, Any] | ImageError:
    """Compute the answer to a request, in a worker."""
    has_heatmap = classifier.spec.output(HEATMAP) is not None
    try:
        prediction = classifier.predict(job.image, explain=job.wants_explanation and has_heatmap)
        answer = prediction.to_dict()
        if job.wants_explanation:
            answer[openapi.EXPLANATION] = asdict(explain(job.image, prediction, classifier.max_pixels))
    except ImageError as error:
        # Returned without its frames, because they and the future would keep the image in memory.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return answer


class _Desk:
    """Accepts images within the limits, and lets the workers classify them."""

    def __init__(self, classifier: Classifier, workers: int, limits: Limits) -> None:
        classifiers = (classifier, *(classifier.copy() for _ in range(workers - 1)))
        self._workers = Workers([functools.partial(_predict, each) for each in classifiers])
        self._limits = limits
        self.arrivals = Arrivals(limits)
        self.places = self.free = workers + limits.waiting
        self.count_prediction: Callable[[dict[str, Any]], None] = lambda verdict: None

    def close(self) -> None:
        self.free = 0
        self._workers.close()

    async def predict(self, request: Request) -> Response:
        """Classify the image in the body of a request."""
        _check_headers(request)
        job = _Job(await self.arrivals.read(request), _is_asked_for(request, openapi.EXPLAIN))
        # Only a complete body takes a place, so that slow clients do not block others.
        self.check_capacity()
        self.free -= 1
        try:
            answer = self._workers.submit(job)
        except BaseException:
            self._free_place()
            raise
        # A thread cannot be stopped, so after its time limit the image keeps its place until the thread is done.
        loop = asyncio.get_running_loop()
        answer.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free_place))
        verdict = await self._wait_for(answer)
        if isinstance(verdict, ImageError):
            return problems.respond(problems.status_of(verdict), str(verdict))
        self.count_prediction(verdict)
        return JSONResponse(verdict)

    def check_capacity(self) -> None:
        """Refuse another image if there is no free place."""
        if self.free <= 0:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, "the service has reached its limit of images",
                "a free place", LATER, {"Retry-After": "1"},
            )  # fmt: skip

    def _free_place(self) -> None:
        self.free += 1

    async def _wait_for(self, answer: Future[dict[str, Any] | ImageError]) -> dict[str, Any] | ImageError:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            raise RequestError(
                HTTPStatus.GATEWAY_TIMEOUT, f"the image was not classified within {self._limits.seconds:g} seconds",
                "a smaller image, or fewer at a time", LATER,
            ) from None  # fmt: skip


def _check_headers(request: Request) -> None:
    """Refuse a request whose headers show that it is not an image, before its body is read."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in openapi.MEDIA_TYPES:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the Content-Type is not that of an image",
            f"one of {', '.join(openapi.MEDIA_TYPES)}", SEND,
        )  # fmt: skip
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body has a Content-Encoding", "an image file without encoding", SEND
        )


def _is_asked_for(request: Request, name: str) -> bool:
    values = request.query_params.getlist(name)
    if any(value not in ("true", "false") for value in values):
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the parameter {name} is wrong",
            "true or false",
            "Correct or omit it",
        )
    return values[-1:] == ["true"]


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return problems.respond(error.status, str(error), error.headers)


def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = f"a request as described in {openapi.DESCRIPTION}"
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at this path; expected {known}. Check the path.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"this path does not take the method; expected {known}. Use another method.",
    }.get(HTTPStatus(error.status_code), error.detail)
    return problems.respond(error.status_code, detail, error.headers)
