"""Workers on a Ray cluster: actors of one core each, on any of its nodes.

This package's other modules do not know Ray. An actor holds the same function as a worker of this machine, and this
process does no more than hand out shards.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic

from pneumo_edge._util import extras, library_warnings, native_output
from pneumo_edge.errors import WorkerError
from pneumo_edge.scale.workers import Answer, Argument, EndedError

#: An address that starts Ray in this process, on this machine alone.
LOCAL = "local"
#: Seconds in which a machine answers at the address of a cluster, and again in which its server does.
_ANSWERS = 5.0
#: How a client of gRPC, which Ray's servers speak, begins (RFC 9113, 3.4): a fixed line and an empty frame of settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
#: Bytes of the head of a frame, and the fourth of them in one of settings, with which every server begins.
_HEAD, _SETTINGS = 9, 4


def check(address: str) -> None:
    """Check that Ray is installed, and that it may be what answers at an address: Ray itself waits for it for ever.

    Args:
        address: As for :func:`connected`. Only those with a host and a port are tried, and ``"auto"`` where the
            environment variable RAY_ADDRESS has one.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkerError: None answers, or something else than Ray; or the address has no port.
    """
    extras.check("ray", "scale")
    tried = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if tried.startswith("ray://"):
        extras.check("grpc", "scale")
    if tried in ("", "auto", LOCAL):
        return
    host, _, port = tried.removeprefix("ray://").rpartition(":")
    try:
        if not host or not port.isdecimal():
            raise OSError("it is not HOST:PORT")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS) as connection:
            # With TLS the answer could not be read here.
            if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true") and not _speaks_grpc(connection):
                raise OSError("what answers there is not Ray")
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _speaks_grpc(connection: socket.socket) -> bool:
    """Whether a server begins as those of gRPC do, with a frame of settings."""
    ends = time.monotonic() + _ANSWERS
    head = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        connection.sendall(_HELLO)
        while len(head) < _HEAD and (left := ends - time.monotonic()) > 0:
            connection.settimeout(left)
            if not (found := connection.recv(_HEAD - len(head))):
                break
            head += found
    return len(head) == _HEAD and head[3] == _SETTINGS


def _unreachable(address: str, error: Exception) -> WorkerError:
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    return WorkerError(
        f"the Ray cluster {address!r} cannot be reached ({first})",
        "the address of a running cluster, auto or local",
        "Start one with `ray start --head`, or omit --address; where it asks for a token, set RAY_AUTH_MODE=token",
    )


@contextlib.contextmanager
def connected(address: str) -> Iterator[int]:
    """Use a Ray cluster while the block runs; one that this process uses already stays as it is.

    Args:
        address: ``"auto"``, ``"local"``, ``"ray://HOST:PORT"``, or ``"HOST:PORT"``.

    Yields:
        The cores of the cluster, at least 1.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkerError: There is no cluster at the address.
    """
    ray = extras.need("ray", "scale")
    is_ours = not ray.is_initialized()
    if is_ours:
        check(address)
        try:
            with library_warnings.Unheard(), native_output.quiet_stderr():
                ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray raises what its connection does
            raise _unreachable(address, error) from error
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if is_ours:
            ray.shutdown()


class ActorWorker(Generic[Argument, Answer]):
    """A worker on a node of the cluster; see :class:`pneumo_edge.scale.workers.Worker`.

    Args:
        function: A class at the top of a module that all nodes have; an instance of it is the function.
        setup: The argument of the class, as :func:`shared` gives it.
    """

    def __init__(self, function: Callable[[Any], Callable[[Argument], Answer]], setup: Any) -> None:
        self._ray = extras.need("ray", "scale")
        self._function, self._setup = function, setup
        self._actor: Any = None
        #: The node that the actor runs on, by its identifier; "" where there is none.
        self.node = ""
        self._stopped = False
        self._lock = threading.Lock()

    def __call__(self, argument: Argument) -> Answer:
        """Apply the function; see :class:`pneumo_edge.scale.workers.Worker`."""
        exceptions = self._ray.exceptions
        try:
            if self._actor is None:
                self._start()
            answer: Answer = self._ray.get(self._actor.call.remote(argument))
        except exceptions.RayTaskError as error:
            raise error.cause from error
        except (exceptions.RayActorError, exceptions.ObjectLostError) as error:
            self._actor, node, self.node = None, self.node, ""
            where = f" on node {node[:8]}" if node else ""
            raise EndedError(f"a process of the cluster ended{where}") from error
        return answer

    def _start(self) -> None:
        with self._lock:
            if self._stopped:
                raise EndedError("it was closed")
            # A new one is started here and not by Ray, so that what ended it is counted.
            self._actor = self._ray.remote(num_cpus=1, max_restarts=0)(Actor).remote()
        try:
            self.node = self._ray.get(self._actor.begin.remote(self._function, self._setup))
        except self._ray.exceptions.RayTaskError:
            self._ray.kill(self._actor)
            self._actor = None
            raise

    def stop(self) -> None:
        """End the actor, from any thread."""
        with self._lock:
            self._stopped = True
            actor = self._actor
        if actor is not None:
            # The cluster may be gone.
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def close(self) -> None:
        """Nothing is left open."""


class Actor:
    """What runs on a node: the function."""

    def __init__(self) -> None:
        self._function: Any = None

    def begin(self, function: Callable[[Any], Any], setup: object) -> str:
        """Make the function; the node that this is."""
        self._function = function(setup)
        return str(extras.need("ray", "scale").get_runtime_context().get_node_id())

    def call(self, argument: object) -> Any:
        """Apply it."""
        return self._function(argument)


def shared(setup: object) -> Any:
    """Put an object where all nodes can get it."""
    return extras.need("ray", "scale").put(setup)
