"""The errors that a user can act on, and the exit codes of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``pneumo-edge``; the same for every verb."""

    OK = 0
    BUG = 1
    USAGE = 2
    FAILED = 3
    SOME_UNJUDGED = 4
    GATE_MISSED = 5
    INTERRUPTED = 130


def printable(text: object) -> str:
    """Text on one line: control characters and undecodable bytes are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


class PneumoEdgeError(Exception):
    """An error that a user can act on, with a message of one line.

    Args:
        given: What was found, with the name of the file or option.
        expected: What was expected instead.
        remedy: What to do next, as an imperative sentence without its full stop.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, given: str, expected: str, remedy: str) -> None:
        # The three parts are the exception's args, so that it survives pickling between processes.
        super().__init__(given, expected, remedy)
        self.given = given
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.given}; expected {self.expected}. {self.remedy}."
        # A quoted message of a library may have several lines.
        return printable(" ".join(line.strip() for line in text.splitlines()))


class ArgumentError(PneumoEdgeError, ValueError):
    """An invalid argument of a function or option of a command."""

    exit_code = ExitCode.USAGE


class ImageError(PneumoEdgeError):
    """An image that cannot be classified."""


class ImageTooLargeError(ImageError):
    """An image with too many bytes or pixels."""


class NotAnImageError(ImageError):
    """Bytes that are not an image of a supported kind."""


class ChangedError(ImageError):
    """An image that has changed since its source was listed."""


class CrashError(ImageError):
    """An image that ends the process which reads it."""


class NoAnswerError(ImageError):
    """An image for which a model gives no answer, such as NaN."""


class ModelFileError(PneumoEdgeError):
    """A model file that cannot be read, or does not match its ModelSpec."""


class MissingExtraError(PneumoEdgeError):
    """A library of an optional extra is not installed."""


class InstallationError(PneumoEdgeError):
    """A part of pneumo-edge itself is missing."""


class DataError(PneumoEdgeError):
    """A data set that cannot be used."""


class ClassesError(DataError):
    """A data set whose classes are not those asked for, or of which no class is known to be the positive one.

    ``found`` are its classes.
    """

    def __init__(self, given: str, expected: str, remedy: str, found: Sequence[str] = ()) -> None:
        super().__init__(given, expected, remedy)
        self.found = tuple(found)


class PatternError(DataError):
    """A pattern for patients in file names that is invalid or matches no patient."""

    exit_code = ExitCode.USAGE


class TrainingError(PneumoEdgeError):
    """A training run that cannot start or resume."""


class ConversionError(PneumoEdgeError):
    """A converter that failed, or a run that cannot be converted."""


class GateError(PneumoEdgeError):
    """A converted file that failed its acceptance checks; it was not kept."""

    exit_code = ExitCode.GATE_MISSED


class ResultsError(PneumoEdgeError):
    """A benchmark that cannot be run, or a results file that cannot be read."""


class StoreError(PneumoEdgeError):
    """An object store that cannot be reached, or a part of it that is not there."""


class WorkerError(PneumoEdgeError):
    """A process of a cluster, or the cluster, that cannot be used."""


class DeviceError(PneumoEdgeError):
    """A device at the other end of a connection that cannot be reached or used."""


class BusyError(PneumoEdgeError):
    """Files that another process is writing."""


class ServiceError(PneumoEdgeError):
    """A service that cannot start."""
