"""Opens a data set, and reports unused files and doubtful patient patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pneumo_edge.api import arguments
from pneumo_edge.api.arguments import DataArgument, Tell
from pneumo_edge.data.classes import renaming
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.layout import describe_passed_over
from pneumo_edge.data.sources import Source, doubt_labels, doubt_pattern, doubt_splits, open_source
from pneumo_edge.errors import ClassesError, DataError, PatternError, printable
from pneumo_edge.scoring.models import ModelFile, find_models, read_models
from pneumo_edge.spec import ModelSpec
from pneumo_edge.task import Task

Item = TypeVar("Item")
#: Shares that take all images for testing.
_ALL = "0/0/100"


def open_data(
    data: DataArgument,
    pattern: str | None = None,
    models: Sequence[Path] = (),
    *,
    needs_splits: bool = True,
    tell: Tell = arguments.print_line,
) -> Source:
    """Open a data set.

    Args:
        data: The data set.
        pattern: The user's pattern for patients; "" for none, None for that of the data source, or in the models.
        models: Model files, and folders with model files. The data set is read like their training data, if it can be.
        needs_splits: Whether data without splits is refused; else all of its images are in the test split.
        tell: Called with a line for each kind of file that is not used, for a table that can be read in
            several ways, and if the pattern or the splits are doubtful.

    Raises:
        DataError: As :func:`pneumo_edge.data.sources.open_source`.
        PatternError: The pattern cannot be used, or the models have several.
    """
    given = DataSource.of(data)
    if pattern is not None:
        given = replace(given, patient_pattern=pattern)
    files = _files(models)
    source = _open(given, list(_ways(given, [file.spec for file in files])), needs_splits, files)
    for line in (*source.remarks, *describe_passed_over(source.passed_over)):
        tell(f"note: {printable(line)}")
    for doubt in filter(None, (doubt_labels(source), doubt_pattern(source), doubt_splits(source))):
        tell(f"warning: {printable(doubt)}.")
    return source


def _open(
    given: DataSource,
    ways: Sequence[tuple[DataSource, Task | None]],
    needs_splits: bool,
    files: Sequence[ModelFile],
) -> Source:
    problem: DataError | None = None
    if not needs_splits and given.split is None:
        ways = [
            way for data, task in ways or [(given, None)] for way in ((data, task), (replace(data, split=_ALL), task))
        ]
    for data, task in ways:
        try:
            return open_source(data, task=task)
        except ClassesError:
            # The models were trained on other data, which is read in another way.
            continue
        except DataError as error:
            problem = error if task is not None else problem
    try:
        return open_source(given)
    except ClassesError as error:
        if problem is not None:
            raise problem from error
        if not files or given.classes is not None or given.positive is not None:
            raise
        raise _other_classes(error, files) from error


def _other_classes(error: ClassesError, files: Sequence[ModelFile]) -> ClassesError:
    """The data set does not have the classes of the models, or these are of several tasks."""
    by_task: dict[Task, list[str]] = {}
    for file in files:
        by_task.setdefault(file.spec.task, []).append(file.model.file)
    told = "; ".join(f"{', '.join(names)}: {task}" for task, names in by_task.items())
    if len(by_task) > 1:
        return ClassesError(
            f"{error.given}, and the models differ ({told})",
            "models of the same classes and positive class",
            f"Omit those of other classes. {error.remedy}",
        )
    (task,) = by_task
    typed = renaming(error.found, None, task)
    return ClassesError(
        error.given,
        f"the classes of the models ({told})",
        f"Give data of these classes{f', or say which is which: {typed}' if typed else ''}",
        error.found,
    )


def _ways(given: DataSource, specs: Sequence[ModelSpec]) -> Iterator[tuple[DataSource, Task | None]]:
    """Yield ways to read the data set: like the models' training data, then with fewer and fewer of its options."""
    if not specs:
        return
    pattern = {"patient_pattern": _pattern_of(specs)} if given.patient_pattern is None else {}
    options = _same([spec.data.options for spec in specs]) or {}
    task = _same([spec.task for spec in specs])
    for defaults in ({**options, **pattern}, options, pattern, {}):
        yield given.with_defaults(defaults), task
    yield given.with_defaults(pattern), None


def _same(items: Sequence[Item]) -> Item | None:
    return items[0] if all(each == items[0] for each in items) else None


def _files(models: Sequence[Path]) -> list[ModelFile]:
    return read_models(find_models(models), lambda skipped: None) if models else []


def _pattern_of(specs: Sequence[ModelSpec]) -> str:
    found = {spec.data.patient_pattern for spec in specs} - {""}
    if len(found) > 1:
        raise PatternError(
            f"the models were trained with different patient patterns ({', '.join(map(repr, sorted(found)))})",
            "the same pattern in all models",
            "Give the pattern with --patient-pattern",
        )
    return next(iter(found), "")
