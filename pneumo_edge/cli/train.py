"""``pneumo-edge train``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pneumo_edge import backbones
from pneumo_edge._util.cores import MOST as CORES
from pneumo_edge.backbones import BACKBONES, LEAST_SIDE, MOST_SIDE, SIDE, Backbone
from pneumo_edge.cli import datasets, options
from pneumo_edge.errors import ArgumentError, ExitCode, printable
from pneumo_edge.scaling import SCALINGS
from pneumo_edge.training.devices import MOST as DEVICES
from pneumo_edge.training.recipes import RECIPES
from pneumo_edge.training.report_recipes import REPRODUCTIONS

if TYPE_CHECKING:
    from pneumo_edge.api.study import StudyPlan
    from pneumo_edge.api.train import TrainedRun
    from pneumo_edge.data.tensors import Dataset

_RECIPE_HELP = "; ".join(f"{row.name}: {row.summary}" for row in RECIPES.values()) + (
    "; report-*: the runs of the student report and their corrected versions, see docs/report-reproduction.md."
)
#: More trainings than this in one command are a slip of the pen.
_MOST_SEEDS = 1000


def _seeds(text: str) -> tuple[int, ...]:
    """Read ``0-4``, ``0,2,5``, or both."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise typer.BadParameter(f"{text!r} is not a list of seeds such as 0-4 or 0,2,5")
        found |= dict.fromkeys(range(first, min(last, first + _MOST_SEEDS) + 1))
        if len(found) > _MOST_SEEDS:
            raise typer.BadParameter(f"{text!r} has more than {_MOST_SEEDS:,} seeds; give fewer")
    return tuple(found)


@datasets.read_by_options()
def train(
    data: options.Data,
    backbone: Annotated[
        list[str] | None,
        options.choice(
            BACKBONES,
            f"The network to train: {', '.join(BACKBONES)}. Repeatable: several are one study. A report-* recipe sets "
            "its own.",
            "NAME",
        ),
    ] = None,
    recipe: Annotated[
        str, options.choice([*RECIPES, *REPRODUCTIONS], _RECIPE_HELP, "|".join([*RECIPES, "report-*"]))
    ] = "best",
    image_size: Annotated[
        int | None,
        typer.Option(
            min=LEAST_SIDE,
            max=MOST_SIDE,
            show_default=False,
            help=f"Height and width of the images, in pixels; by default {SIDE}, or what the model of --init takes.",
        ),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(help="Width of the backbone, as a multiple of the usual one; MobileNetV2 has 0.35 to 1.4."),
    ] = 1.0,
    weights: options.Weights = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Instead of a backbone: a Keras model (.keras, .h5) that you trained, to train it further with a new "
            "last layer. Give --input-range with it.",
        ),
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="With --init: what pixels were scaled to before they went into the model. "
            f"{', '.join(SCALINGS)}, LOW..HIGH, or mean=M;std=S.",
        ),
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the run; by default runs/NETWORK-RECIPE, or runs/RECIPE."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initialization and of the order of images.")] = 0,
    seeds: Annotated[
        Any,
        typer.Option(
            parser=_seeds,
            metavar="N-M|N,M",
            show_default=False,
            help="Train once with each of these seeds, such as 0-4, one after the other; a hyphen and the seed are "
            f"added to the name of each run's folder. At most {_MOST_SEEDS:,} seeds, each of at most 9 digits.",
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Train as a study in this folder, which has a folder for each run: each in a process of its own, "
            "several at a time. By default runs/study-RECIPE where several --backbone are given.",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=CORES,
            show_default=False,
            help="In a study: cores of each run; by default those of the machine, at most 4.",
        ),
    ] = None,
    memory: Annotated[
        Any,
        typer.Option(
            parser=options.quantity(options.SIZES),
            metavar="SIZE",
            show_default=False,
            help="In a study: memory that is set aside for each run, such as 6GB; by default 3GB.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            show_default=False,
            help="In a study: train on a Ray cluster: auto, local, ray://HOST:PORT or HOST:PORT. All nodes must have "
            "pneumo-edge and the same paths. It needs the extra scale.",
        ),
    ] = None,
    devices: Annotated[
        int,
        typer.Option(
            min=1,
            max=DEVICES,
            help="GPUs that train the network together, each with a part of every batch; batch and learning rate are "
            "scaled (docs/training.md). Without a GPU the processor is divided, which is not faster.",
        ),
    ] = 1,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs in each phase; only for report-* recipes.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=2, help="Train on this many randomly drawn images; only for report-* recipes.")
    ] = None,
) -> None:
    """Train a network on labelled images.

    If training is interrupted, run the same command again: it resumes from
    the last finished epoch. The validation split is drawn from the train
    split by patient. The test split is not used. With --seeds, one command
    trains several runs of a network, so that networks can be compared
    (docs/evaluation.md).

    Several --backbone are one study (docs/how-to/study.md): a run for each
    network and seed. A run that fails does not stop the others; the command
    then ends with exit code 4. Run it again to resume, and to try failed
    runs again.

    A report-* recipe repeats a run of the student report instead: it trains
    on the whole train split, validates on the test split, and writes no model
    to export.
    """
    from pneumo_edge import runs
    from pneumo_edge.api import study as api_study
    from pneumo_edge.api import train as api

    if seeds is not None and seed:
        raise typer.BadParameter("--seed and --seeds were both given; give one of them")
    if study is not None or (backbone and len(backbone) > 1):
        if devices > 1:
            raise typer.BadParameter("--devices is for one network; a study trains several at a time, see --cores")
        _check_study(recipe, init is not None or input_range is not None, out, epochs, images)
        _train_study(
            api_study.StudyPlan(
                data=datasets.source(data, reading),
                backbones=api_study.networks(backbone or (), alpha, SIDE if image_size is None else image_size),
                recipe=recipe,
                seeds=seeds or (seed,),
                weights=weights,
                folder=study or api_study.default_folder(recipe),
                cores=cores,
                memory_bytes=None if memory is None else int(memory),
                address=address,
            )
        )
        return
    if (cores, memory, address) != (None, None, None):
        raise typer.BadParameter("--cores, --memory and --address are only for a study; give --study")
    if devices > 1:
        if recipe in REPRODUCTIONS:
            raise typer.BadParameter(f"{recipe} trains on one device; omit --devices")
        api.check_devices(devices, recipe)
    initial = None
    if init is not None or input_range is not None:
        _check_init(recipe, epochs, images)
        given = {
            "--backbone": bool(backbone),
            "--alpha": alpha != 1,
            # A variable of the environment may name them, for other networks.
            "--weights": weights is not None and str(weights) != os.environ.get("PNEUMO_EDGE_WEIGHTS"),
        }
        try:
            row, initial = api.open_init(init, input_range, image_size, given)
        except ArgumentError as error:
            raise typer.BadParameter(str(error)) from error
    else:
        row = _settle(backbone[0] if backbone else None, recipe, image_size, alpha, epochs, images)
    is_report = recipe in REPRODUCTIONS
    folder = out or (Path("runs", recipe) if is_report else api.default_folder(row, recipe))
    folders = {seed: folder} if seeds is None else api.seed_folders(folder, seeds)
    for each in folders.values():
        options.check_folder(each)
    first = next(iter(folders.values()))
    dataset = api.read_data(datasets.source(data, reading), None, first, options.tell, row.side)
    for line in api.describe(dataset, first / ("reproduction.json" if is_report else runs.MANIFEST_NAME)):
        typer.echo(printable(line))
    if not dataset.manifest.real:
        options.tell(api.PHANTOM)
    if is_report:
        for number, each in folders.items():
            _reproduce(recipe, row, weights, dataset, each, number, epochs, images)
        return
    for run in api.train_seeds(dataset, data, row, recipe, initial or weights, folders, devices):
        _print(run)
    if len(folders) > 1:
        typer.echo(f"All runs: pneumo-edge export {' '.join(map(str, folders.values()))}")


def _check_study(recipe: str, is_own: bool, out: Path | None, epochs: int | None, images: int | None) -> None:
    """Refuse options that a study does not take."""
    if recipe in REPRODUCTIONS or is_own:
        raise typer.BadParameter(
            f"a study trains networks of the table; omit {'--init and --input-range' if is_own else recipe}"
        )
    if out is not None:
        raise typer.BadParameter("--out is for a run; give the folder of a study with --study")
    _check_extent(recipe, epochs, images)


def _train_study(plan: StudyPlan) -> None:
    from pneumo_edge.api import study as api
    from pneumo_edge.api.train import TrainedRun

    options.check_folder(plan.folder)
    failed = finished = 0
    for row, outcome in api.carry_out(plan, options.tell):
        if isinstance(outcome, TrainedRun):
            finished += 1
            typer.echo(f"{row.name}: validation {_found(outcome)} after {outcome.record.training.epochs} epochs")
        else:
            failed += 1
            options.tell(f"error: {row.name} failed: {outcome}")
    typer.echo(f"Study: {finished} of {finished + failed} runs are finished. Next: pneumo-edge study {plan.folder}")
    if failed:
        options.tell("Run the same command again to try the failed runs again")
        raise typer.Exit(ExitCode.SOME_UNJUDGED if finished else ExitCode.FAILED)


def _print(run: TrainedRun) -> None:
    training = run.record.training
    metrics = training.validation
    typer.echo(f"{run.folder}: validation {_found(run)} after {training.epochs} epochs")
    if "counterfactual_auc" in metrics:
        flips = metrics["counterfactual_flips_all"]
        typer.echo(
            f"Counterfactual validation: AUC {metrics['counterfactual_auc']:.4f}; {flips:.1%} of decisions change when "
            "marks, border, tone and sharpness are those of the other class"
        )
    typer.echo(f"Initial weights: {training.initial_weights}")
    typer.echo(f"Next: pneumo-edge export {run.folder}")


def _found(run: TrainedRun) -> str:
    """AUC and accuracy on validation, in words."""
    metrics, threshold = run.record.training.validation, run.record.decision.threshold
    if threshold is None:
        return f"AUC {metrics['auc']:.4f} (the mean of each class against the rest), accuracy {metrics['accuracy']:.4f}"
    return f"AUC {metrics['auc']:.4f}, accuracy {metrics['accuracy']:.4f} at threshold {threshold:.4f}"


def _check_init(recipe: str, epochs: int | None, images: int | None) -> None:
    if recipe in REPRODUCTIONS:
        raise typer.BadParameter(f"{recipe} trains its own network; omit --init and --input-range")
    _check_extent(recipe, epochs, images)


def _check_extent(recipe: str, epochs: int | None, images: int | None) -> None:
    if epochs is not None or images is not None:
        raise typer.BadParameter(f"--epochs and --images are only for report-* recipes; {recipe} sets its own epochs")


def _settle(
    backbone: str | None, recipe: str, side: int | None, alpha: float, epochs: int | None, images: int | None
) -> Backbone:
    """Return the backbone, or refuse options that cannot be combined."""
    if report := REPRODUCTIONS.get(recipe):
        if backbone not in (None, report.backbone):
            raise typer.BadParameter(f"{recipe} trains {report.backbone}; omit --backbone, or give that name")
        if side not in (None, SIDE) or alpha != 1:
            raise typer.BadParameter(f"{recipe} sets its own image size and width; omit --image-size and --alpha")
        return BACKBONES[report.backbone]
    _check_extent(recipe, epochs, images)
    if backbone is None:
        raise typer.BadParameter(f"the recipe {recipe} needs --backbone; give one of {', '.join(BACKBONES)}")
    try:
        return backbones.variant(backbone, alpha, SIDE if side is None else side)
    except ArgumentError as error:
        raise typer.BadParameter(f"{error.given}; expected {error.expected}") from error


def _reproduce(
    recipe: str,
    backbone: Backbone,
    weights: Path | None,
    dataset: Dataset,
    folder: Path,
    seed: int,
    epochs: int | None,
    images: int | None,
) -> None:
    from pneumo_edge import runs
    from pneumo_edge._util import jobs
    from pneumo_edge.training import initial_weights, reproduction

    initial = initial_weights.find(backbone, weights, trained=False)
    with jobs.alone(folder / runs.RECORD_NAME, "training", jobs.SAME_COMMAND):
        result = reproduction.reproduce(REPRODUCTIONS[recipe], initial, dataset, folder, seed, epochs, images)
    rows = reproduction.read_history(folder)
    typer.echo(
        f"{folder}: validation accuracy by epoch {', '.join(f'{row.val_accuracy:.4f}' for row in rows)}, "
        f"{rows[-1].called_pneumonia:.0%} classified as pneumonia after the last. Initial weights: "
        f"{result.initial_weights}. Validated, as in the report, on {sum(result.validation_images.values())} test "
        "images. This recipe writes no model to export"
    )
