"""Exports a finished run to verified files: the function behind ``pneumo-edge export``.

Each step is a module: :mod:`~pneumo_edge.converters.prepare`,
:mod:`~pneumo_edge.converters.convert`, :mod:`~pneumo_edge.converters.verify` (with
:mod:`~pneumo_edge.converters.stability`), :mod:`~pneumo_edge.converters.describe` and
:mod:`~pneumo_edge.converters.publish`. A format that is searched for takes :mod:`~pneumo_edge.converters.mixed` instead
of the second and the third.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import runs
from pneumo_edge._util import files, jobs, scratch
from pneumo_edge.converters import convert, isolated, mixed, proof, publish, reference, stability
from pneumo_edge.converters.acceptance import AT_EXPORT, Candidate
from pneumo_edge.converters.convert import Conversions
from pneumo_edge.converters.describe import describe
from pneumo_edge.converters.isolated import Child
from pneumo_edge.converters.prepare import Prepared, open_run, prepare
from pneumo_edge.converters.verify import Verified, verify
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.errors import ConversionError, GateError, ModelFileError, PneumoEdgeError
from pneumo_edge.formats import FORMATS, ON_REQUEST, Format
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import CalibrationSpec, ModelSpec

_LOG_NAME = "converter.log"


@dataclass(frozen=True)
class Exported:
    """The outcome of a format: the file's path and spec, or the error.

    ``made`` is False where an earlier file is still up to date.
    """

    row: Format
    path: Path
    spec: ModelSpec | None
    missed: PneumoEdgeError | None = None
    made: bool = True


def export(
    folder: Path, rows: Sequence[Format], out: Path, cache: Path, data: Path | DataSource | None = None
) -> Iterator[Exported]:
    """Convert a finished run to each format, verify each file, and keep those that pass.

    Beside the files it writes their proofs (:mod:`pneumo_edge.converters.proof`), the reference set that they were
    compared with (:mod:`pneumo_edge.converters.reference`) and the calibration manifest.

    Args:
        folder: The run's folder.
        rows: Formats to make.
        out: Folder for the model files.
        cache: Folder with decoded data sets.
        data: The data set that the run was trained on; by default its path during training.

    Yields:
        The outcome of each format, as soon as it is known. A file of the same network, settings and versions is kept.
        Any other file of that name is removed first, so every file in ``out`` has passed.

    Raises:
        ConversionError: There is no finished run, the data is not the data that it was trained on, or files in the
            folder have changed since training (:mod:`pneumo_edge.converters.provenance`).
        BusyError: Another process trains the run, exports it, or writes the same files.
        DataError: The data cannot be opened.
        MissingExtraError: TensorFlow, a converter or every engine of a format is missing.
    """
    run = runs.load(folder)
    with ExitStack() as stack:
        # Runs of several backbones may be exported to one folder at the same time.
        for target in (folder / runs.RECORD_NAME, out / reference.file_name(run.backbone)):
            stack.enter_context(jobs.alone(target, "export", jobs.SAME_COMMAND))
        opened = open_run(folder, run, cache, data)
        # It must outlive the child, which may still write there when it is ended.
        place = stack.enter_context(scratch.folder(folder))
        child = stack.enter_context(isolated.child_process(folder / _LOG_NAME))
        prepared = prepare(opened, out, child)
        # All are started first: the child converts the next file while this process verifies one.
        started: dict[str, Callable[[], _Passed]] = {}
        for row in [row for row in rows if not publish.is_up_to_date(prepared, row)]:
            publish.remove(prepared, row)
            if row.searched:
                started[row.id] = functools.partial(_search, prepared, row, place, child)
            else:
                started[row.id] = functools.partial(_verify, prepared, convert.start(prepared, row, place, child))
        for row in rows:
            path = prepared.path(row)
            if row.id in started:
                yield _make(prepared, row, started[row.id])
            else:
                yield Exported(row, path, read_spec(path), made=False)


def of_other_weights(folder: Path, out: Path) -> list[str]:
    """Names of the files in ``out`` that an earlier export made of another network of the same name.

    Args:
        folder: The run that was exported.
        out: Folder with model files.
    """
    backbone, checkpoint = runs.load(folder).backbone, files.sha256(folder / runs.MODEL_NAME)
    found = []
    for row in (*FORMATS.values(), *ON_REQUEST.values()):
        path = out / row.file_name(backbone)
        # A file without a proof is of nobody knows what.
        with contextlib.suppress(ConversionError):
            if path.exists() and proof.load(path).origin.checkpoint != checkpoint:
                found.append(path.name)
    return found


@dataclass(frozen=True)
class _Passed:
    """A file that passed, without a spec; its verification and its calibration."""

    path: Path
    verified: Verified
    calibrated: CalibrationSpec | None


def _make(prepared: Prepared, row: Format, wait: Callable[[], _Passed]) -> Exported:
    """Wait for a file that passes, and publish it with its spec and its proof."""
    path = prepared.path(row)
    try:
        passed = wait()
    except (ConversionError, GateError, ModelFileError) as error:
        return Exported(row, path, None, error)
    spec = describe(prepared, row, passed.verified, passed.calibrated)
    return Exported(row, path, publish.publish(prepared, row, passed.path, spec, passed.verified))


def _verify(prepared: Prepared, conversions: Conversions) -> _Passed:
    row, path, positive = conversions.row, conversions.file.path, prepared.opened.run.task.positive_index
    share = convert.finish(conversions.file, path.name)
    remedy = mixed.INSTEAD if row == mixed.INT8 else AT_EXPORT
    verified = verify(Candidate(path, row, positive, remedy), prepared.reference, prepared.described)
    return _Passed(path, verified, stability.check(prepared, conversions, share, verified))


def _search(prepared: Prepared, row: Format, place: Path, child: Child) -> _Passed:
    found = mixed.search(prepared, row, place, child)
    return _Passed(found.path, found.verified, found.calibrated)
