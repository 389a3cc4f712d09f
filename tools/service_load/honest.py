"""An honest client: an image every tenth of a second, each on a connection of its own."""

from __future__ import annotations

import http.client
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tools.service_load.attacks import HOST

#: Seconds between two requests, and after which one is given up.
_EVERY, _TIMEOUT = 0.1, 10.0


@dataclass(frozen=True)
class Answer:
    """What one request met: the status, 0 where there was no answer, and the seconds until it was read."""

    status: int
    seconds: float


def image() -> bytes:
    """A PNG file of 600 x 500 pixels of noise."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (500, 600), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def ask(port: int, body: bytes) -> Answer:
    """Send an image to be classified."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT)
    status = 0
    try:
        connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
        response = connection.getresponse()
        response.read()
        status = response.status
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return Answer(status, time.monotonic() - begun)


def ask_for(port: int, seconds: float) -> list[Answer]:
    """Send an image every tenth of a second, even if the one before has no answer yet."""
    body, begun = image(), time.monotonic()
    with ThreadPoolExecutor(64) as threads:
        running = []
        for number in range(max(1, round(seconds / _EVERY))):
            time.sleep(max(0.0, begun + number * _EVERY - time.monotonic()))
            running.append(threads.submit(ask, port, body))
        return [each.result() for each in running]
