"""The options that say how a data set is read, shared by all verbs that read one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import typer

from pneumo_edge.cli import options
from pneumo_edge.data.datasource import DataSource, option, parse_shares, split_classes
from pneumo_edge.errors import ArgumentError

Verb = TypeVar("Verb", bound=Callable[..., Any])
#: What a verb gets for its parameter ``reading``: the options that were given, by the fields of ``DataSource``.
Reading = Mapping[str, str]
#: The default of that parameter.
AS_IT_IS: Reading = MappingProxyType({})

_PANEL = "How the data set is read"
_OPTIONS = {
    "classes": ("A,B=NEW", "Use these classes, in this order; OLD=NEW renames a class, and equal new names merge."),
    "positive": ("CLASS", "The class to look for, where there are two; of more classes, all others become the other."),
    "split": ("TRAIN/VAL/TEST", "Draw the splits, for data without any, for example 80/10/10."),
    "test": ("DIR", "A folder with the test images, apart from the others."),
    "labels": ("FILE", "A table with a row for each image, .csv or .parquet; --data is then the folder of images."),
    "image_column": ("NAME", "The table's column with the image; by default found by its usual names."),
    "label_column": ("NAME", "The column with the class, or with findings separated by |."),
    "patient_column": ("NAME", "The column with the patient."),
    "split_column": ("NAME", "The column with train, val or test."),
    "kind_column": ("NAME", "The column with the kind, for example bacteria or virus."),
    "uncertain_labels": ("ones|zeros|ignore", "What -1 in the column of a finding means; ignore leaves the image out."),
    "patient_pattern": (
        "REGEX",
        "Regular expression whose one group is the patient in an image's file name, for example '^(p[0-9]+)_'. By "
        "default names of the Kermany data set are recognized",
    ),
}
#: Before the names of their parameters: a verb may have one of the same name.
_PREFIX = "read_"
_OF_MODELS = " By default as for the models."


def read_by_options(*, split: str = "--split", models: bool = False) -> Callable[[Verb], Verb]:
    """Give a verb the options that say how its data set is read, in place of its parameter ``reading``.

    Args:
        split: What the option for drawing splits is called.
        models: Whether the verb takes model files, which know how the data was read that they were trained on.
    """

    def decorate(verb: Verb) -> Verb:
        added = [_parameter(name, split, models) for name in _OPTIONS]

        def with_options(**arguments: Any) -> Any:
            given = {name: arguments.pop(_PREFIX + name) for name in _OPTIONS}
            return verb(**arguments, reading={name: value for name, value in given.items() if value is not None})

        parameters: list[inspect.Parameter] = []
        for each in inspect.signature(verb, eval_str=True).parameters.values():
            if each.name == "reading":
                parameters += added
            else:
                parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        with_options.__name__, with_options.__doc__ = verb.__name__, verb.__doc__
        return with_options  # type: ignore[return-value]

    return decorate


def source(data: Path, reading: Reading) -> DataSource:
    """The data set as the options say.

    Raises:
        typer.BadParameter: An option has a value that cannot be read.
    """
    checks: dict[str, Callable[[str], object]] = {"split": parse_shares, "classes": split_classes}
    for name, check in checks.items():
        try:
            if name in reading:
                check(reading[name])
        except ArgumentError as error:
            raise typer.BadParameter(f"{error.given}; expected {error.expected}", param_hint=option(name)) from error
    return DataSource(str(data), **reading)


def optional_source(data: Path | None, reading: Reading) -> DataSource | None:
    """The same for a verb that can do without a data set.

    Raises:
        typer.BadParameter: As :func:`source`, or there are options and no data set.
    """
    if data is None and reading:
        raise typer.BadParameter(f"needed where {option(next(iter(reading)))} is given", param_hint="--data")
    return None if data is None else source(data, reading)


def words(reading: Reading) -> list[str]:
    """The options as they are given to another command."""
    return [word for name, value in reading.items() for word in (option(name), value)]


def _parameter(name: str, split: str, models: bool) -> inspect.Parameter:
    metavar, text = _OPTIONS[name]
    if name == "patient_pattern":
        text += ", or the pattern in the models is used." if models else "."
    elif models and name in ("classes", "positive", "split"):
        text += _OF_MODELS
    kind: Any = str | None
    if name == "uncertain_labels":
        info = options.choice(metavar.split("|"), text)
        info.rich_help_panel, info.param_decls = _PANEL, (option(name),)
    else:
        names = dict.fromkeys((split if name == "split" else option(name), option(name)))
        info = typer.Option(*names, metavar=metavar, show_default=False, help=text, rich_help_panel=_PANEL)
    return inspect.Parameter(
        _PREFIX + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
    )
