"""Options that several verbs share."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pneumo_edge import bundled
from pneumo_edge._util import cores, outputs
from pneumo_edge.errors import ArgumentError, printable

if TYPE_CHECKING:
    from pneumo_edge.runtime.classifier import Classifier
    from pneumo_edge.runtime.engines.tensors import Given

#: Help for a model. The parameter is text, because as a path ``./NAME`` would become the bundled NAME.
MODEL_HELP = f"A bundled model ({', '.join(bundled.NAMES)}), or a model file, .tflite or .onnx."
#: Printed before the predictions of a model whose data are phantom images, by what they were used for.
_PHANTOM = {
    "trained on": "This model was trained on",
    "threshold chosen on": "The threshold of this model was chosen on",
    "measured on": "This model was measured on",
}
#: Printed before metrics on phantom images.
PHANTOM_METRICS = "These are PHANTOM images, not X-rays. The numbers say nothing about pneumonia."
MODELS_HELP = f"Model files, folders with model files, or bundled models ({', '.join(bundled.NAMES)})."


#: Units of a quantity, for :func:`quantity`: of a time in milliseconds, of a size in bytes.
TIMES = {"ms": 1.0, "s": 1000.0}
SIZES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def quantity(units: Mapping[str, float]) -> Callable[[str], float]:
    """Make the parser of an option that takes a number with a unit."""

    def parse(text: str) -> float:
        match = re.fullmatch(rf"(\d+\.?\d*|\.\d+) ?({'|'.join(units)})", text)
        if not match or not float(match[1]):
            raise typer.BadParameter(f"{text!r} is not a number above 0 with one of the units {', '.join(units)}")
        return float(match[1]) * units[match[2]]

    return parse


def choice(names: Collection[str], help_text: str, metavar: str | None = None) -> Any:
    """Make an option that takes one of the given names, for a parameter of type str, list[str], or one of them or None.

    Names are looked up when a value is given, so that a row which is added to a table later counts.
    """

    def check(value: str | list[str] | None) -> str | list[str] | None:
        for each in [value] if isinstance(value, str) else value or ():
            if each not in names:
                raise typer.BadParameter(f"{each!r} is not one of {', '.join(names)}")
        return value

    callback: Callable[[str | list[str] | None], str | list[str] | None] = check
    return typer.Option(metavar=metavar or "|".join(names), callback=callback, help=help_text)


def max_pixels(most: int) -> Any:
    """Make the option for the most pixels of an image, of a type int; ``most`` is that of all verbs."""
    return typer.Option(min=1, max=most, help="Most pixels of an image; checked before decoding.")


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``NAME=1x3x224x224``, or ``1x3x224x224`` for the only input, whose name is then ``""``."""
    name, _, sizes = text.rpartition("=")
    if not re.fullmatch(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*", sizes):
        raise typer.BadParameter(f"{text!r} is not a shape such as 1x3x224x224 or NAME=1x3x224x224")
    return name, tuple(map(int, sizes.split("x")))


def input_value(text: str) -> tuple[str, float]:
    """Read ``NAME=16000``, or ``16000`` for the only input, whose name is then ``""``."""
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a number such as 16000 or NAME=16000") from error


def given_inputs(shapes: Iterable[Any] | None, values: Iterable[Any] | None) -> Given:
    """What :data:`InputShapes` and :data:`InputValues` say together."""
    from pneumo_edge.runtime.engines.tensors import Given

    return Given(dict(shapes or ()), dict(values or ()))


InputValues = Annotated[
    list[Any] | None,
    typer.Option(
        "--input-value",
        parser=input_value,
        metavar="[NAME=]NUMBER",
        help="Value of every element of an input that takes no others, such as a sample rate; may be given again.",
    ),
]
InputShapes = Annotated[
    list[Any] | None,
    typer.Option(
        "--input-shape",
        parser=input_shape,
        metavar="[NAME=]1x3x224x224",
        help="Shape of an input with axes of any size; may be given again.",
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        envvar="PNEUMO_EDGE_DATA",
        help="Folder of images, with or without train, val and test; or a MedMNIST .npz file.",
    ),
]
OptionalData = Annotated[
    Path | None,
    typer.Option(envvar="PNEUMO_EDGE_DATA", help="As for `train`. Without it, accuracy is not measured."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        envvar="PNEUMO_EDGE_WEIGHTS",
        help="Initial weights: a file, or a folder with the ImageNet weights. By default Keras downloads the ImageNet "
        "weights; if that fails, the weights of the bundled model are used.",
    ),
]
Model = Annotated[str, typer.Option(help=MODEL_HELP)]
Engine = Annotated[
    str | None,
    typer.Option(
        help="litert, tflite-runtime, onnxruntime, openvino, or an engine of another package; by default the best one "
        "installed."
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=cores.MOST, help="Threads for one inference.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=cores.MOST,
        show_default=False,
        help="Images classified at a time; by default one for each core.",
    ),
]
#: In bytes; the default is text, which the parser reads.
MaxBody = Annotated[float, typer.Option(parser=quantity(SIZES), metavar="SIZE", help="Largest file, such as 20MB.")]
MAX_BODY: Any = "50MB"

#: Options whose empty value has a meaning.
_MAY_BE_EMPTY = "--patient-pattern"


def refuse_empty(arguments: Iterable[str]) -> None:
    """Refuse an empty path or name.

    An unset variable in a script leaves one, and as a path it would mean the current folder.

    Raises:
        typer.BadParameter: One of the arguments is empty.
    """
    for before, argument in pairwise(("", *arguments)):
        if (not argument or re.fullmatch(r"--[a-z-]+=", argument)) and _MAY_BE_EMPTY not in (before, argument[:-1]):
            raise typer.BadParameter(f"{argument!r} is empty; give a path or a value, or omit it")


@contextlib.contextmanager
def usage(option: str = "--out") -> Iterator[None]:
    """Turn an ArgumentError of the block into wrong usage of an option (exit code 2).

    Raises:
        typer.BadParameter: The block raised an ArgumentError.
    """
    try:
        yield
    except ArgumentError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def check_folder(out: Path) -> None:
    """Check a folder to write into, as :func:`pneumo_edge._util.outputs.check_folder` does.

    Raises:
        typer.BadParameter: It is a file.
    """
    with usage():
        outputs.check_folder(out)


def check_out(out: Path, inputs: Iterable[str | os.PathLike[str]], option: str = "--out") -> None:
    """Check a file to write, as :func:`pneumo_edge._util.outputs.check_file` does.

    Args:
        out: The file.
        inputs: Files that the command reads.
        option: The option that names the file, for the message.

    Raises:
        typer.BadParameter: The file is a folder or one of the inputs.
    """
    with usage(option):
        outputs.check_file(out, inputs)


def tell(line: str) -> None:
    """Print a line on standard error; control characters of names in it are escaped."""
    typer.echo(printable(line), err=True)


def warn_phantom(classifier: Classifier) -> None:
    """Warn on standard error if the model was trained, or its threshold chosen, on phantom images."""
    spec = classifier.spec
    if not spec.data.real:
        typer.echo(f"{_PHANTOM[spec.data_use]} PHANTOM images, not X-rays. Do not use it on patients.", err=True)


def warn_unverified(classifier: Classifier) -> None:
    """Warn on standard error if the model was not verified on this engine or kind of processor."""
    from pneumo_edge.runtime import verified

    if unverified := verified.remark(printable(classifier.path.name), classifier.spec, classifier.engine.name):
        typer.echo(f"warning: {unverified}", err=True)


def describe_measured(measured: Mapping[str, float]) -> str:
    """Describe in one line what the acceptance checks of a file measured on one engine."""
    text = (
        f"{measured['images']:.0f} images, same decision on {measured['agreement']:.1%}, largest difference "
        f"{measured['max_difference']:.2g}, mean {measured['mean_difference']:.2g}"
    )
    if "max_auc_loss" in measured:
        text += f", AUC loss {measured['auc_loss']:.4f}, at most {measured['max_auc_loss']:.4f}"
    return text
