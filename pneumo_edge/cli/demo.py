"""``pneumo-edge demo``: the whole pipeline, with the commands that a user would type."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import children, files, jobs
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ExitCode, PneumoEdgeError, printable

if TYPE_CHECKING:
    from pneumo_edge._util.document import Table
    from pneumo_edge.benchmarks.report.runs import Run
    from pneumo_edge.data.sources import DataSource, Source

#: What is trained and exported: enough to compare within minutes on two cores, and what the package has weights of.
_BACKBONES = bundled.NAMES
_RECIPE = "quick"
_FORMATS = ("tflite-fp32", "tflite-int8", "onnx-fp32")
#: Each file is timed on one engine, which every supported Python has.
_ENGINES = ("litert", "onnxruntime")
#: The shortest timing that settles a claim.
_TIMING = ("--preset", "rapid")
_IMAGES_PER_CLASS = 2

#: Whether a line of a command's output is shown.
_Shown = Callable[[str], bool]


@datasets.read_by_options()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PNEUMO_EDGE_DATA",
            help="A data set. Without it: PneumoniaMNIST, downloaded unless it is in the cache; without a network the "
            "sample pack of the repository; without that, phantom images.",
        ),
    ] = None,
    weights: options.Weights = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("out"),
    reading: datasets.Reading = datasets.AS_IT_IS,
) -> None:
    """Run the whole pipeline: predict, train, export, verify, benchmark.

    It classifies an X-ray with the bundled model at once. Then it trains
    two backbones with the quick recipe and compares their files. Each
    command is shown as it runs. Run the demo again after an interruption:
    it resumes.
    """
    from pneumo_edge.data.sources import open_source

    _step("A first answer, by the bundled model")
    given = datasets.optional_source(data, reading)
    _run("predict", _image_at_hand(given, out))
    _step("Data")
    path = data or _find_data()
    source = open_source(given or path)
    place = out / "-".join([path.stem, *(["weights"] if weights else [])])
    models, report = place / "models", place / "report"
    runs = [place / "runs" / f"{backbone}-{_RECIPE}" for backbone in _BACKBONES]
    _tell_images(source)

    _step("Train")
    for backbone, run in zip(_BACKBONES, runs, strict=True):
        settings = ["--data", str(path), *datasets.words(reading), "--backbone", backbone, "--recipe", _RECIPE]
        settings += ["--weights", str(weights)] if weights else []
        _run("train", *settings, "--out", run, show=lambda line: "validation AUC" in line)

    _step("Export, and compare each file with the Keras model")
    formats = [word for name in _FORMATS for word in ("--format", name)]
    code = _run("export", *runs, *formats, "--out", models, allowed=(ExitCode.OK, ExitCode.GATE_MISSED))
    if code == ExitCode.GATE_MISSED:
        typer.echo("The demo continues with the files that passed.")
    if smallest := min(models.glob("*.tflite"), key=lambda path: path.stat().st_size, default=None):
        _step("Predict with the smallest file")
        _run("predict", *_some_images(source, place / "images"), "--model", smallest)

    _step("Benchmark")
    engines = [word for name in _ENGINES for word in ("--engine", name)]
    settings = ["--data", str(path), *datasets.words(reading), *engines, *_TIMING, "--out", str(report), "--resume"]
    _run("benchmark", models, *settings, show=lambda line: False)
    _summarise(models, report)


def _step(title: str) -> None:
    typer.echo()
    screen.show(f"== {title}", bold=True)


def _image_at_hand(data: DataSource | None, out: Path) -> Path:
    """An X-ray of pneumonia from the sample pack, else from the data given; else a phantom image."""
    from pneumo_edge.data import phantom, sample
    from pneumo_edge.data.sources import open_source

    if pack := sample.find():
        return min((_short(pack) / "test" / "PNEUMONIA").iterdir())
    if data:
        return _some_images(open_source(data), out / "images")[-1]
    typer.echo("No X-ray is at hand: this is a PHANTOM image, a drawing. The answer on it means nothing.")
    folder = phantom.make_phantom(out / "phantom", seed=0, train_per_class=0, test_per_class=1)
    return next((folder / "test" / "PNEUMONIA").iterdir())


def _short(path: Path) -> Path:
    """A path as a user in the current folder would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _find_data() -> Path:
    """A data set that was fetched before, else one fetched now, else the sample pack, else phantom images."""
    from pneumo_edge._util.cache import cache_folder
    from pneumo_edge.data import fetch, sample

    if fetched := fetch.find_fetched():
        return fetched
    typer.echo("$ pneumo-edge data fetch")
    try:
        return fetch.fetch_medmnist(cache_folder())
    except PneumoEdgeError as error:
        lost = printable(error.given)
    if pack := sample.find():
        typer.echo(f"{lost}. The sample pack is used instead: real X-rays, but few.")
        return _short(pack)
    typer.echo(f"{lost}. PHANTOM images are drawn instead, which are not X-rays.", err=True)
    phantom = cache_folder() / "phantom"
    _run("data", "phantom", phantom)
    return phantom


def _tell_images(source: Source) -> None:
    train, test = (sum(each.split == split for each in source.samples) for split in ("train", "test"))
    typer.echo(f"{source.title}: {train:,} images to train on, {test:,} to test")


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


def _summarise(models: Path, report: Path) -> None:
    """Print the end of the demo: what was made, the files, the claims, and where the report is."""
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks.report import brief
    from pneumo_edge.benchmarks.report.compose import compose
    from pneumo_edge.benchmarks.report.runs import gather
    from pneumo_edge.benchmarks.summary import summarise

    runs = gather([summarise(raw.read(report / "results.json"))])
    (run,) = runs
    _step(f"Made: {len(_BACKBONES)} trained networks and {len(run.summary.results.models)} model files in {models}")
    if run.summary.phantom or run.summary.random_weights:
        screen.show(f"WARNING: {compose(runs).warnings[0][0]}", "bad", bold=True)
    screen.show_table(_table(run))
    for sentence, tone in brief.claims(run):
        screen.show(sentence, tone)
    pages = [path for path in (report / "report.html", report / "report.md") if path.is_file()]
    typer.echo(f"Report: {pages[0]}")


def _table(run: Run) -> Table:
    """A row for each file that the demo wanted, those that failed their acceptance checks included."""
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.backbones import backbone_title
    from pneumo_edge.benchmarks.report import brief, cells
    from pneumo_edge.formats import select

    measured = {row.model.file: row for row in run.summary.rows}

    def rows() -> Iterator[tuple[Cell, ...]]:
        for backbone in _BACKBONES:
            for format_ in select(list(_FORMATS)):
                name = format_.file_name(backbone)
                title = (
                    Cell(backbone_title(backbone)),
                    Cell(format_.id),
                )
                if (row := measured.get(name)) is None:
                    yield *title, *map(Cell, ("",) * 4), Cell("no", tone="bad")
                else:
                    yield (
                        *title,
                        Cell(row.result.unit.engine),
                        cells.number(row.model.size_bytes / 1e6),
                        cells.number(row.inference.median_ms),
                        cells.interval(row.accuracy.auc if row.accuracy else None),
                        passes if (passes := brief.passes(row, run)).tone else Cell("yes", tone="good"),
                    )

    columns = ("Backbone", "Format", "Engine", "Size MB", "Inference ms", "AUC", "Passes")
    return Table(columns, 3, tuple(rows()))


def _run(*words: str | Path, allowed: Iterable[ExitCode] = (ExitCode.OK,), show: _Shown | None = None) -> int:
    """Show a command and run it.

    Args:
        words: Its arguments.
        allowed: The exit codes with which the demo continues.
        show: Which lines of its standard output are shown; by default all, as they come.
    """
    arguments = [str(word) for word in words]
    typer.echo(f"$ pneumo-edge {shlex.join(arguments)}")
    if sys.stdout:
        sys.stdout.flush()
    code = _call(["-m", "pneumo_edge", *arguments], show)
    if code not in tuple(allowed):
        raise typer.Exit(code)
    return code


def _call(program: Sequence[str], show: _Shown | None) -> int:
    with children.start(*program, errors="shown", piped=show is not None) as child:
        try:
            if show:
                for line in child.stdout:
                    if show(text := line.decode(errors="replace").rstrip(os.linesep)):
                        typer.echo(text)
            return child.process.wait()
        except KeyboardInterrupt as error:
            # Ctrl-C reaches both, a signal to this process does not; either way it has something to keep.
            child.process.terminate()
            if child.process.wait() == ExitCode.INTERRUPTED:
                # It has said that it was interrupted.
                typer.echo("Run the demo again: it continues with the step that was interrupted.", err=True)
                raise typer.Exit(ExitCode.INTERRUPTED) from error
            error.add_note(jobs.SAME_COMMAND)
            raise
