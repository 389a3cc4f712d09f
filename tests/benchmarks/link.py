"""A link to a network namespace that delays packets, loses some, and can be cut: two TUN devices, a thread between."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Of linux/if_tun.h: set up a device; one of packets without a header.
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LARGEST = 2**16


@dataclass
class Link:
    """The link.

    Attributes:
        namespace: The namespace at its other end.
        address: Of that end.
        delay_s: How long a packet takes in one direction.
        loss: Share of the packets that are lost.
        packets: How many went through, and how many were lost.
    """

    namespace: str
    address: str
    delay_s: float
    loss: float
    packets: dict[str, int] = field(default_factory=lambda: {"passed": 0, "lost": 0})
    _cut_until: float = 0.0

    def cut(self, seconds: float) -> None:
        """Lose every packet for so long."""
        self._cut_until = time.monotonic() + seconds

    def carry(self, ends: tuple[int, int], ended: threading.Event) -> None:
        """Carry packets from each end to the other until it is ended."""
        chance, on_the_way, number = random.Random(0), list[tuple[float, int, int, bytes]](), 0
        while not ended.is_set():
            wait = max(0.0, min(0.05, on_the_way[0][0] - time.monotonic())) if on_the_way else 0.05
            for end in select.select(ends, (), (), wait)[0]:
                packet, number, now = os.read(end, _LARGEST), number + 1, time.monotonic()
                lost = now < self._cut_until or chance.random() < self.loss
                self.packets["lost" if lost else "passed"] += 1
                if not lost:
                    heapq.heappush(on_the_way, (now + self.delay_s, number, sum(ends) - end, packet))
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(on_the_way)
                with contextlib.suppress(OSError):  # a packet that the other end does not take is lost
                    os.write(end, packet)


def _device(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


@contextlib.contextmanager
def bad_link(delay_s: float, loss: float) -> Iterator[Link]:
    """Make a namespace and a link to it, and remove both.

    Raises:
        OSError: This process may not, or the system has no such devices.
        subprocess.CalledProcessError: The same, said by ``ip``.
    """
    name, net = f"pe{os.getpid()}", f"10.213.{os.getpid() % 250}"
    found = Link(name, f"{net}.2", delay_s, loss)

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    with contextlib.ExitStack() as undo:
        ends = []
        for letter in "ab":
            ends.append(_device(name + letter))
            undo.callback(os.close, ends[-1])
        ip("netns", "add", name)
        undo.callback(ip, "netns", "del", name)
        ip("link", "set", f"{name}b", "netns", name)
        ip("addr", "add", f"{net}.1/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        for words in (("addr", "add", f"{net}.2/30", "dev", f"{name}b"), ("link", "set", f"{name}b", "up")):
            ip("-n", name, *words)
        ip("-n", name, "link", "set", "lo", "up")
        ended = threading.Event()
        thread = threading.Thread(target=found.carry, args=(tuple(ends), ended), daemon=True)
        thread.start()
        undo.callback(thread.join)
        undo.callback(ended.set)
        yield found
