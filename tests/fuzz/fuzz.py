"""Coverage-guided fuzzing: ``python -m tests.fuzz.fuzz TARGET [libFuzzer's options and corpus folders]``."""

from __future__ import annotations

import sys

import atheris

#: What is watched for branches that no input has taken yet: the code of ours, and the Python of what it hands bytes to.
_WATCHED = ["pneumo_edge", "PIL", "pydicom", "zipfile"]

with atheris.instrument_imports(include=_WATCHED):
    import pydicom.filereader
    import pydicom.values  # noqa: F401

    from tests.fuzz.targets import TARGETS


if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
