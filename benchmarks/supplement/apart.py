"""One function, carried out in a fresh process: a record in, a record out.

:func:`call` runs it as ``python -m benchmarks.supplement.apart MODULE FUNCTION``.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping

from pneumo_edge import records
from pneumo_edge.errors import ExitCode, PneumoEdgeError, ResultsError

Argument = typing.TypeVar("Argument")
Answer = typing.TypeVar("Answer")


def call(
    function: Callable[[Argument], Answer], argument: Argument, doing: str, environment: Mapping[str, str] | None = None
) -> Answer:
    """Carry out a function in a fresh process.

    Args:
        function: A function at the top of its module, from one dataclass to another, which JSON can hold.
        argument: What it gets.
        doing: What it does, for people.
        environment: Variables that the process has beside those of this one.

    Raises:
        ResultsError: The function raised a PneumoEdgeError, or the process crashed.
    """
    # -P, because a folder called benchmarks where the user happens to be is not this package.
    command = [sys.executable, "-P", "-m", __name__, function.__module__, function.__name__]
    done = subprocess.run(
        command,
        input=records.dumps(argument, indent=None),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode == ExitCode.OK:
        answer: Answer = records.loads(typing.get_type_hints(function)["return"], done.stdout)
        return answer
    if done.returncode == ExitCode.FAILED and done.stdout:
        raise ResultsError(*done.stdout.splitlines())
    code = done.returncode
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = ([line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it left no message"])[-1]
    raise ResultsError(
        f"the process that was {doing} ended with {how} ({last})",
        "a process that lives until it has measured",
        "Leave out the file, or this measure",
    )


def main(module: str, name: str) -> int:
    """Carry out a function with the record on standard input; its answer is all that standard output gets."""
    # Native libraries print to standard output as they please.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        function = getattr(importlib.import_module(module), name)
        (kind,) = (hint for name, hint in typing.get_type_hints(function).items() if name != "return")
        try:
            stream.write(records.dumps(function(records.loads(kind, sys.stdin.buffer.read())), indent=None))
        except PneumoEdgeError as error:
            stream.write("\n".join(" ".join(part.split()) for part in (error.given, error.expected, error.remedy)))
            return ExitCode.FAILED
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
