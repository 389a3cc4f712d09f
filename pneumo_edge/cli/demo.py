"""``pneumo-edge demo``: the whole pipeline, by the verbs that users run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import children, files, jobs
from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode, PneumoEdgeError, printable

if TYPE_CHECKING:
    from pneumo_edge.data.sources import Source

_RECIPE = "quick"
_IMAGES_PER_CLASS = 3


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PNEUMO_EDGE_DATA",
            help="A data set. Without it: PneumoniaMNIST, fetched where it is not there yet; else the sample pack of "
            "the repository; else phantom images.",
        ),
    ] = None,
    weights: options.Weights = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("out"),
) -> None:
    """Run the whole pipeline: train, convert, verify, predict, benchmark.

    Every command is shown as it runs. MobileNetV2 and EfficientNetB0 are trained with the
    quick recipe; the same command resumes an interrupted demo.
    """
    from pneumo_edge.data.sources import open_source

    path = data or _find_data()
    place = out / "-".join([path.stem, *(["weights"] if weights else [])])
    models, report = place / "models", place / "report"
    runs = [place / "runs" / f"{backbone}-{_RECIPE}" for backbone in bundled.NAMES]
    for backbone, run in zip(bundled.NAMES, runs, strict=True):
        given = ["--weights", str(weights)] if weights else []
        _run("train", "--data", path, "--backbone", backbone, "--recipe", _RECIPE, *given, "--out", run)
    if _run("export", *runs, "--out", models, allowed=(ExitCode.OK, ExitCode.GATE_MISSED)) == ExitCode.GATE_MISSED:
        typer.echo(
            "Files that failed their acceptance checks (named above) are left out; the demo continues with the others."
        )
    images = _some_images(open_source(path), place / "images")
    for backbone in bundled.NAMES:
        smallest = min(models.glob(f"{backbone}-*.tflite"), key=lambda path: path.stat().st_size, default=None)
        if smallest:
            _run("info", smallest)
            _run("predict", *images, "--model", smallest)
    few = ("--preset", "rapid", "--processes", "3", "--queries", "30", "--seconds", "1")
    _run("benchmark", models, "--data", path, *few, "--out", report, "--resume")


def _find_data() -> Path:
    """A data set that was fetched before, else one fetched now, else the sample pack, else phantom images."""
    from pneumo_edge._util.cache import cache_folder
    from pneumo_edge.data import fetch, sample

    if fetched := fetch.find_fetched():
        return fetched
    typer.echo("\n$ pneumo-edge data fetch")
    try:
        return fetch.fetch_medmnist(cache_folder())
    except PneumoEdgeError as error:
        lost = printable(error.given)
    if pack := sample.find():
        typer.echo(f"{lost}. The sample pack in {pack} is taken instead: real X-rays, but few of them.")
        return pack
    typer.echo(f"{lost}. PHANTOM images are drawn instead, which are not X-rays.", err=True)
    phantom = cache_folder() / "phantom"
    _run("data", "phantom", phantom)
    return phantom


def _some_images(source: Source, folder: Path) -> list[Path]:
    """Copy a few test images of each class to files that `predict` can be shown on."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen: list[Path] = []
    for label in (0, 1):
        samples = [sample for sample in source.samples if sample.split == "test" and sample.label == label]
        for sample in samples[:_IMAGES_PER_CLASS]:
            name = sample.name.replace("/", "-")
            path = folder / (name if source.has_files else f"{name}.bmp")
            with files.naming(path):
                path.write_bytes(source.read(sample))
            chosen.append(path)
    return chosen


def _run(*words: str | Path, allowed: Iterable[ExitCode] = (ExitCode.OK,)) -> int:
    arguments = [str(word) for word in words]
    typer.echo(f"\n$ pneumo-edge {shlex.join(arguments)}")
    code = _call(["-m", "pneumo_edge", *arguments])
    if code not in tuple(allowed):
        raise typer.Exit(code)
    return code


def _call(program: Sequence[str]) -> int:
    with children.start(*program, errors="shown", piped=False) as child:
        try:
            return child.process.wait()
        except KeyboardInterrupt as error:
            # Ctrl-C reaches both, a signal to this process does not; either way it has something to keep.
            child.process.terminate()
            child.process.wait()
            error.add_note(jobs.SAME_COMMAND)
            raise
