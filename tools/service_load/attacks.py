"""Five attacks on a service on this machine, bounded in time, connections and bytes.

``python -m tools.service_load.attacks NAME PORT SECONDS`` carries one out, and prints what it did as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

HOST = "127.0.0.1"
#: Seconds after which a client that was turned away comes back.
_AGAIN = 0.3
#: Most bytes that one client sends on one connection, at any answer of the service.
_MOST_BYTES = 2_000_000_000
_MOST_SECONDS = 300.0

Counts = Counter[str]
_Client = Callable[[int, int, Counts], Awaitable[None]]


@asynccontextmanager
async def _connected(port: int) -> Any:
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _come_back(client: _Client, number: int, port: int, end: float, counts: Counts) -> None:
    """One client, that comes back whenever it is turned away."""
    while time.monotonic() < end:
        try:
            counts["connections"] += 1
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                await client(number, port, counts)
        except TimeoutError:
            return
        except OSError:
            counts["turned away"] += 1
        await asyncio.sleep(_AGAIN)


def _side_by_side(client: _Client, clients: int) -> Callable[[int, float], Counts]:
    async def attack(port: int, seconds: float) -> Counts:
        counts: Counts = Counter()
        end = time.monotonic() + seconds
        # Not all in one instant, so that the attack lasts.
        tasks = []
        for number in range(clients):
            tasks.append(asyncio.create_task(_come_back(client, number, port, end, counts)))
            if number % 50 == 49:
                await asyncio.sleep(0.02)
        await asyncio.gather(*tasks)
        return counts

    return lambda port, seconds: asyncio.run(attack(port, seconds))


async def _idle(number: int, port: int, counts: Counts) -> None:
    """Connect and say nothing, or half a request's head."""
    async with _connected(port) as (reader, writer):
        if number % 2:
            writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        await _read_status(reader, counts)
        await reader.read()


_ENDLESS = [
    (b"Content-Length: 1000000000000", bytes(0x10000)),
    (b"Transfer-Encoding: chunked", b"10000\r\n" + bytes(0x10000) + b"\r\n"),
    (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 10_000),
]


async def _endless(number: int, port: int, counts: Counts) -> None:
    """Send a body without end, at any answer: one that is refused at once, or in large or one-byte chunks."""
    length, chunks = _ENDLESS[number % len(_ENDLESS)]
    sent = 0
    async with _connected(port) as (reader, writer):
        status = asyncio.create_task(_read_status(reader, counts))
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n")
        try:
            while sent < _MOST_BYTES:
                writer.write(chunks)
                await writer.drain()
                sent += len(chunks)
                counts["bytes"] += len(chunks)
                counts["most bytes on a connection"] = max(counts["most bytes on a connection"], sent)
                # Other clients of this process have their turn.
                await asyncio.sleep(0)
        finally:
            status.cancel()


async def _trickle(number: int, port: int, counts: Counts) -> None:
    """Send a byte of a body from time to time."""
    async with _connected(port) as (reader, writer):
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        status = asyncio.create_task(_read_status(reader, counts))
        while not status.done():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.5)


_HOSTILE = [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
]


async def _hostile(number: int, port: int, counts: Counts) -> None:
    """Ask again and again as the page of another site would."""
    headers = {"Host": "localhost", **_HOSTILE[number % len(_HOSTILE)]}
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    request = f"POST /predict HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n".encode()
    async with _connected(port) as (reader, writer):
        while True:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            counts[f"status {head[9:12].decode()}"] += 1
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            await asyncio.sleep(0.02)


async def _read_status(reader: asyncio.StreamReader, counts: Counts) -> None:
    try:
        line = await reader.readline()
    except OSError:
        line = b""
    counts[f"status {line[9:12].decode()}" if line else "closed"] += 1


def _oversized(port: int, seconds: float) -> Counts:
    """Send bodies of 51 MB, and 20 MB of what is no image, as the documentation's Python does."""
    end = time.monotonic() + seconds

    def send(number: int) -> Iterator[str]:
        large = number % 2 == 0
        body, media_type = (bytes(51_000_000), "image/png") if large else (bytes(20_000_000), "text/plain")
        while time.monotonic() < end:
            request = urllib.request.Request(f"http://{HOST}:{port}/predict", body, {"Content-Type": media_type})
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    yield f"status {response.status}"
            except urllib.error.HTTPError as error:
                with error:
                    yield f"status {error.code}"
            except OSError:
                yield "answer lost"
            time.sleep(_AGAIN)

    with ThreadPoolExecutor(8) as threads:
        return Counter(outcome for outcomes in threads.map(lambda n: list(send(n)), range(8)) for outcome in outcomes)


ATTACKS: dict[str, Callable[[int, float], Counts]] = {
    "idle": _side_by_side(_idle, 1100),
    "oversized": _oversized,
    "endless": _side_by_side(_endless, 9),
    "trickle": _side_by_side(_trickle, 50),
    "hostile": _side_by_side(_hostile, 10),
}


def main() -> None:
    """Carry out the attack that the command line names."""
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    counts = ATTACKS[name](port, min(seconds, _MOST_SECONDS))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
