"""Folders, on this machine or in an object store, to read images from and to write results into.

A local folder needs no other library. Everything else is opened by fsspec, by the protocol before ``://``.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pneumo_edge._util import extras, files
from pneumo_edge.errors import ImageError, StoreError
from pneumo_edge.imaging import images

Answer = TypeVar("Answer")
#: Protocols of s3fs.
S3 = ("s3", "s3a")
#: Seconds before each further attempt where a store fails.
_WAITS = (0.2, 1.0, 5.0)
#: Seconds for one file of a web server, and without a byte of it. s3fs has such limits of its own.
_WHOLE_SECONDS, _QUIET_SECONDS = 120, 20
#: Answers of a web server that may be others later, or for all files alike: they do not concern one image.
_PASSING = (401, 407, 408, 425, 429)
#: Answers of a web server that has no such file.
_GONE = (404, 410)


class Store(Protocol):
    """A place that holds files by their paths: absolute, or of the whole URL."""

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: There is no such file.
            StoreError: The store fails, again and again.
            OSError: The file cannot be read.
        """

    def read_image(self, path: str, start: int | None = None, size: int | None = None) -> bytes:
        """The bytes of an image file, or a part of a larger file.

        Raises:
            ImageError: The file is missing, empty or too large; or, on this machine, it cannot be read.
            StoreError: The store fails, again and again.
        """

    def version(self, path: str) -> int | None:
        """What changes with a file, where it costs next to nothing to ask; None where it does not."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file, whole: a reader sees it complete or not at all.

        Raises:
            StoreError: The store fails, again and again.
            OSError: It cannot be written; the error names the path.
        """

    def create(self, path: str, content: bytes) -> bool:
        """Write a file, whole, unless there is one; False where there is.

        Of processes that create one file at the same time, one gets True. A store without such an operation writes, so
        that the last one wins; read the file again after it.

        Raises:
            StoreError: The store fails, again and again.
            OSError: It cannot be written; the error names the path.
        """

    def exists(self, path: str) -> bool:
        """Whether there is such a file now."""

    def names(self, folder: str) -> set[str]:
        """The names in a folder; none where it does not exist."""

    def open(self, path: str) -> contextlib.AbstractContextManager[Any]:
        """Open a file for reading; it can be read at any place.

        Raises:
            OSError: It cannot be opened.
        """


def is_url(path: str) -> bool:
    """Whether a path is that of an object store, or of anything else but the local disk."""
    return "://" in path


def join(folder: str, name: str) -> str:
    """The path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if folder else name


def of(path: str) -> Store:
    """The store of a path.

    Raises:
        MissingExtraError: fsspec, or the library that it takes for the protocol, is not installed.
        StoreError: There is no such protocol.
    """
    return _Remote(path.partition("://")[0]) if is_url(path) else _Local()


class _Local:
    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def read_image(self, path: str, start: int | None = None, size: int | None = None) -> bytes:
        if start is None or size is None:
            return images.read(Path(path))
        images.check_bytes(size)
        with Path(path).open("rb") as stream:
            stream.seek(start)
            return stream.read(size)

    def version(self, path: str) -> int | None:
        try:
            return Path(path).stat().st_mtime_ns
        except OSError:
            return -1

    def write(self, path: str, content: bytes) -> None:
        with files.atomic(Path(path)) as temporary:
            temporary.write_bytes(content)
            files.flush(temporary)

    def create(self, path: str, content: bytes) -> bool:
        target = Path(path)
        whole = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
        self.write(str(whole), content)
        with files.naming(target, whole):
            try:
                os.link(whole, target)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                if target.exists():
                    return False
                whole.replace(target)
            finally:
                whole.unlink(missing_ok=True)
        return True

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def names(self, folder: str) -> set[str]:
        try:
            return set(os.listdir(folder))  # noqa: PTH208 (names, of which there may be very many)
        except FileNotFoundError:
            return set()

    def open(self, path: str) -> contextlib.AbstractContextManager[Any]:
        return Path(path).open("rb")


@dataclass(frozen=True)
class _Remote:
    """What fsspec opens; each operation is tried again where the store fails."""

    protocol: str

    @cached_property
    def system(self) -> Any:
        return file_system(self.protocol)

    def read(self, path: str) -> bytes:
        return bytes(_persist(path, lambda: self.system.cat_file(path)))

    def read_image(self, path: str, start: int | None = None, size: int | None = None) -> bytes:
        end = None
        if size is not None:
            images.check_bytes(size)
            end = (start or 0) + size
        try:
            self.system  # noqa: B018 - raises NoProtocolError
        except _NoProtocolError as error:
            raise ImageError(*error.args) from error
        try:
            # Of a file whose size is not known, no more is read than an image may have.
            data = bytes(_persist(path, lambda: self.system.cat_file(path, start=start, end=end)))
        except FileNotFoundError as error:
            raise ImageError("there is no such file", "the path of an image file", "Check the path") from error
        except _RefusedError as error:
            raise ImageError(
                f"the server does not give this file ({error})", "an address that can be read", "Check the address"
            ) from error
        images.check_bytes(len(data))
        return data

    def version(self, path: str) -> int | None:
        return None

    def write(self, path: str, content: bytes) -> None:
        try:
            _persist(path, lambda: self.system.pipe_file(path, content))
        except FileNotFoundError as error:
            raise _no_bucket(path) from error

    def create(self, path: str, content: bytes) -> bool:
        if self.exists(path):
            return False
        try:
            _persist(path, lambda: self._create(path, content))
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise _no_bucket(path) from error
        return True

    def _create(self, path: str, content: bytes) -> None:
        try:
            self.system.pipe_file(path, content, mode="create")
        except (TypeError, NotImplementedError, ValueError):  # of file systems without it
            self.system.pipe_file(path, content)
        except Exception as error:  # how a store says that the file is there differs
            if self.exists(path):
                raise FileExistsError(path) from error
            raise

    def exists(self, path: str) -> bool:
        # Another run may have written it since the folder was listed.
        self.system.invalidate_cache()
        return bool(_persist(path, lambda: self.system.exists(path)))

    def names(self, folder: str) -> set[str]:
        self.system.invalidate_cache()
        try:
            found = _persist(folder, lambda: self.system.ls(folder, detail=False))
        except FileNotFoundError:
            return set()
        return {name.rstrip("/").rpartition("/")[2] for name in found}

    def open(self, path: str) -> contextlib.AbstractContextManager[Any]:
        try:
            return io.BufferedReader(_Stream(path, _persist(path, lambda: self.system.open(path, "rb"))))
        except _RefusedError as error:
            raise listing_errors(path, error) from error


class _Stream(io.RawIOBase):
    """A file of a store; each read is tried again where the store fails."""

    def __init__(self, path: str, opened: Any) -> None:
        super().__init__()
        self._path, self._opened = path, opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._opened.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())

    def readinto(self, buffer: Any) -> int:
        begin = self.tell()

        def read() -> bytes:
            if self.seekable():
                self.seek(begin)
            return bytes(self._opened.read(len(buffer)))

        try:
            data = _persist(self._path, read)
        except (_RefusedError, FileNotFoundError) as error:
            raise listing_errors(self._path, error) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._opened.close()
        super().close()


@cache
def check_library(protocol: str) -> None:
    """Check that the library of a protocol is installed; an unknown one is left to the files that have it.

    Raises:
        MissingExtraError: fsspec is not installed.
        StoreError: The library that it takes for the protocol is not installed.
    """
    with contextlib.suppress(_NoProtocolError):
        file_system(protocol)


def file_system(protocol: str) -> Any:
    """The fsspec file system of a protocol.

    Raises:
        MissingExtraError: fsspec, or the library that it takes for the protocol, is not installed.
        StoreError: There is no such protocol.
    """
    fsspec = extras.need("fsspec", "scale")
    try:
        return fsspec.filesystem(protocol, **_options(protocol))
    except ImportError as error:
        raise StoreError(
            f"{protocol}:// cannot be opened ({error})",
            "the fsspec library of this protocol",
            'Install it, or for s3:// the extra: pip install "pneumo-edge[scale]"',
        ) from error
    except ValueError as error:
        raise _NoProtocolError(
            f"{protocol}:// is no protocol that fsspec knows", "s3://, gs://, az:// or another", "Check the address"
        ) from error


def _options(protocol: str) -> dict[str, Any]:
    if protocol in S3:
        # One request for a file, without one for its size before.
        return {"max_concurrency": 1}
    if protocol in ("http", "https"):
        limits = extras.need("aiohttp", "scale").ClientTimeout(total=_WHOLE_SECONDS, sock_read=_QUIET_SECONDS)
        return {"client_kwargs": {"timeout": limits}}
    return {}


def listing_errors(path: str, error: Exception) -> StoreError:
    """What to tell of a store that cannot be listed or opened at all."""
    error = _meant(path, error)
    if isinstance(error, FileNotFoundError):
        what = "a file" if is_web(path) else "a bucket or prefix"
        return StoreError(f"{path} does not exist", f"{what} that exists", "Check the address")
    if (refused := _refused(error)) or isinstance(error, _RefusedError):
        return StoreError(
            f"{path} is not given by its server ({refused or error})", "an address that can be read",
            "Check the address",
        )  # fmt: skip
    if isinstance(error, PermissionError):
        return StoreError(
            f"{path} is not open to this user ({_first_line(error)})", "permission to list and read it",
            "Check the credentials",
        )  # fmt: skip
    return StoreError(f"{path} cannot be read ({_first_line(error)})", "a store that answers", "Run it again later")


def _no_bucket(path: str) -> StoreError:
    """What to tell of a file that cannot be written because what shall hold it does not exist."""
    protocol, _, inside = path.partition("://")
    bucket = f"{protocol}://{inside.partition('/')[0]}"
    return StoreError(
        f"{path} cannot be written: {bucket} does not exist", "a bucket that exists", "Make it, or check the address"
    )


class _NoProtocolError(StoreError):
    """fsspec does not know a protocol."""


class _RefusedError(OSError):
    """A web server refuses a file for good."""


def _persist(path: str, operation: Callable[[], Answer]) -> Answer:
    """Carry out an operation, several times where the store fails."""
    for wait in (*_WAITS, None):
        try:
            try:
                return operation()
            except FileNotFoundError as error:
                if (meant := _meant(path, error)) is error:
                    raise
                raise meant from error
        except _RefusedError:
            raise
        except (FileNotFoundError, FileExistsError, StoreError):
            raise
        except PermissionError as error:
            # Also of an image: with credentials that have run out, all that follow would fail alike.
            raise listing_errors(path, error) from error
        except Exception as error:  # of the libraries of any store
            if refused := _refused(error):
                raise _RefusedError(refused) from error
            if wait is None:
                raise StoreError(
                    f"{path} cannot be reached ({_first_line(error)})",
                    "a store that answers",
                    "Run the same command again to continue",
                ) from error
            time.sleep(wait)
    raise AssertionError


def is_web(path: str) -> bool:
    """Whether a path is an address of a web server, which lists no files."""
    return path.startswith(("http://", "https://"))


def _meant(path: str, error: Exception) -> Exception:
    """The error itself: of a web server, fsspec calls each one a file that is not there."""
    cause = error.__cause__
    if (
        isinstance(error, FileNotFoundError)
        and is_web(path)
        and isinstance(cause, Exception)
        and getattr(cause, "status", None) not in _GONE
    ):
        return cause
    return error


def _refused(error: Exception) -> str:
    """How a web server refuses a file for good; "" where it does not."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in _PASSING:
        return f"HTTP {status} {getattr(error, 'message', '')}".strip()
    return "it redirects again and again" if type(error).__name__ == "TooManyRedirects" else ""


def _first_line(error: Exception) -> str:
    if status := getattr(error, "status", None):  # of a web server
        return f"HTTP {status} {getattr(error, 'message', '')}".strip()
    lines = str(error).splitlines() or [""]
    return lines[0].strip() or type(error).__name__


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what goes wrong with a store as a whole into one line.

    Raises:
        StoreError: The block raised an error of a remote store.
    """
    try:
        yield
    except (OSError, StoreError) as error:
        if not is_url(path) or isinstance(error, StoreError):
            raise
        raise listing_errors(path, error) from error
