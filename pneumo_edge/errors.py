"""Everything that can go wrong in a way a user can act on, and the exit codes of the command line."""

from __future__ import annotations

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
    """Text with every control character and undecodable byte as its escape, so that it stays on one line."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


class PneumoEdgeError(Exception):
    """An error that a user can act on, told in one line.

    Args:
        given: What was found, naming the file or the option.
        expected: What would have been right.
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
        # A library's own words, quoted in an error, may run over several lines.
        return printable(" ".join(line.strip() for line in text.splitlines()))


class ArgumentError(PneumoEdgeError, ValueError):
    """An argument of a function, or an option of a command, that cannot be used as it is."""

    exit_code = ExitCode.USAGE


class ImageError(PneumoEdgeError):
    """An image that cannot be judged."""


class ImageTooLargeError(ImageError):
    """An image of more bytes or pixels than are taken."""


class NotAnImageError(ImageError):
    """Bytes that are no image of a kind that is read."""


class ModelFileError(PneumoEdgeError):
    """A model file that cannot be read, or does not keep to its ModelSpec."""


class MissingExtraError(PneumoEdgeError):
    """A library that an optional extra brings is not installed."""


class InstallationError(PneumoEdgeError):
    """A part of pneumo-edge itself is missing."""


class DataError(PneumoEdgeError):
    """A data set that cannot be used as it is."""


class PatternError(DataError):
    """A pattern for patients in file names that is none, or tells no patient."""

    exit_code = ExitCode.USAGE


class TrainingError(PneumoEdgeError):
    """A training run that cannot start or go on."""


class ConversionError(PneumoEdgeError):
    """A converter that failed, or a run that cannot be converted."""


class GateError(PneumoEdgeError):
    """A converted file that missed a bound of its format; it was not kept."""

    exit_code = ExitCode.GATE_MISSED


class ResultsError(PneumoEdgeError):
    """A benchmark that cannot be run, or a results file that cannot be read."""


class BusyError(PneumoEdgeError):
    """Files that another process is writing."""


class ServiceError(PneumoEdgeError):
    """A service that cannot start."""
