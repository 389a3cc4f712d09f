"""``pneumo-edge predict``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import native_output
from pneumo_edge._util.outputs import identities
from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode, ImageError, printable

if TYPE_CHECKING:
    from pneumo_edge.cli.predictions import ImageVerdict
    from pneumo_edge.runtime.classifier import Classifier, Prediction
    from pneumo_edge.runtime.identity import PredictorIdentity

_PNG = ".png"
_STEM_BYTES = 200

#: An image to classify: its path, and the reason if it cannot be classified.
_Found = tuple[Path, ImageError | None]


def predict(
    # Unreadable paths are reported one by one, not refused while options are parsed.
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE|DIR", readable=False, help="Images (DICOM: with the extra 'dicom'), or folders of images."
        ),
    ],
    model: options.Model = bundled.DEFAULT,
    engine: options.Engine = None,
    threads: options.Threads = 1,
    workers: options.Workers = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse out-of-distribution images (unlike the training images).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON document per line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the results to a .csv, .json, .jsonl or .parquet file and print only a summary. The file "
            "appears when it is complete; until then FILE.partial holds the finished results.",
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG|DIR",
            help="Draw a heatmap of the evidence for the positive class over the X-ray: for one image into this .png "
            "file, else into this folder, one file per image.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the interrupted run that was writing the --out file.")
    ] = False,
) -> None:
    """Classify chest X-rays.

    The exit code is 0 if every image was classified, and 4 if some or all
    could not be. Each of those is printed with its reason; the others are
    classified. In a folder, a file counts as an image by its ending or by
    its content. Other files are counted at the end and do not change the
    exit code. Links to folders are followed, each folder once. A remark
    says where the model is uncertain, and where an image is
    out-of-distribution: unlike the images the model was trained on.
    """
    from pneumo_edge._util import cores
    from pneumo_edge.runtime.identity import PredictorIdentity

    chosen = _text_format(as_json, as_jsonl, as_csv, out)
    _check_out(out, resume)
    classifier = _load(model, engine, threads)
    found, unread = _find(inputs)
    images = [path for path, problem in found if not problem]
    if out:
        options.check_out(out, [classifier.path, *images])
    if explain:
        classifier.check_explains()
    pictures = _pictures(found, explain)
    if strict:
        classifier.check_checks_input()
    workers = min(workers or cores.workers(threads), max(1, len(found)))
    work = _Work(found, pictures, classifier, workers, PredictorIdentity.of(classifier, strict))
    counts = _write(out, resume, work) if out else _print(chosen, work)
    _tell(counts, work, unread)
    if counts[_UNCLASSIFIED]:
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


_UNCLASSIFIED = "not classified"


@dataclass(frozen=True)
class _Work:
    """The images to classify, the files for their heatmaps, and the classifier."""

    found: Sequence[_Found]
    pictures: Sequence[Path]
    classifier: Classifier
    workers: int
    predictor: PredictorIdentity


def _text_format(as_json: bool, as_jsonl: bool, as_csv: bool, out: Path | None) -> str:
    """Return the ending of the format to print, "" for the table."""
    formats = [text for text, wanted in (("json", as_json), ("jsonl", as_jsonl), ("csv", as_csv)) if wanted]
    if len(formats) + (out is not None) > 1:
        raise typer.BadParameter("give only one of --json, --jsonl, --csv and --out")
    return f".{formats[0]}" if formats else ""


def _check_out(out: Path | None, resume: bool) -> None:
    from pneumo_edge._util import extras
    from pneumo_edge.cli.predictions import PARQUET, TEXTS

    if resume and not out:
        raise typer.BadParameter("needs --out", param_hint="--resume")
    if out and out.suffix not in (*TEXTS, PARQUET):
        raise typer.BadParameter(f"{out} does not end in {', '.join((*TEXTS, PARQUET))}", param_hint="--out")
    if out and out.suffix == PARQUET:
        # Report a missing library before the images are classified, not after.
        extras.need("pyarrow", "parquet")
    if out:
        options.check_out(out, ())


def _load(model: str, engine: str | None, threads: int) -> Classifier:
    from pneumo_edge.runtime.classifier import Classifier

    classifier = Classifier(model, engine=engine, threads=threads)
    options.warn_phantom(classifier)
    options.warn_unverified(classifier)
    return classifier


def _write(out: Path, resume: bool, work: _Work) -> Counter[str]:
    """Classify into a file and print a summary. Returns the number of images with each label and each remark."""
    from pneumo_edge._util import jobs
    from pneumo_edge.cli import predictions

    with jobs.alone(out, "prediction", jobs.WITH_RESUME):
        counts = _predict_into(out, resume, work)
    images = "1 image" if len(work.found) == 1 else f"{len(work.found):,} images"
    labels = {what: count for what, count in counts.items() if what not in predictions.REMARKS}
    remarks = {shown: counts[what] for what, shown in predictions.REMARKS_SHOWN.items() if what in counts}
    text = ", ".join(f"{count:,} {what}" for what, count in labels.items())
    text += f"; of these {', '.join(f'{count:,} {what}' for what, count in remarks.items())}" if remarks else ""
    typer.echo(printable(f"{out}: {images}: {text}"))
    return counts


def _print(chosen: str, work: _Work) -> Counter[str]:
    """Classify, and print each result as soon as it is known. Returns the counts like :func:`_write`."""
    from pneumo_edge.cli import predictions, screen

    write = predictions.TEXTS[chosen] if chosen else partial(predictions.table, colours=screen.has_colours())
    counts: Counter[str] = Counter()
    classified = _count(_predict(work, 0), counts)
    # On a terminal, a progress bar and a table would overwrite each other.
    shown = classified if sys.stdout and sys.stdout.isatty() else _show_progress(classified, len(work.found), 0)
    for text in write(shown, work.predictor):
        # By default click removes colour codes from piped text, also from file names.
        typer.echo(text, nl=False, color=True)
    return counts


def _tell(counts: Counter[str], work: _Work, unread: Sequence[str]) -> None:
    """Explain the remarks, and name the files in the folders that are not images."""
    if counts["foreign"]:
        _tell_out_of_distribution(counts["foreign"], len(work.found), work.classifier)
    with native_output.stderr_is_heard():
        for line in unread:
            typer.echo(f"note: {line}", err=True)


def _predict_into(out: Path, resume: bool, work: _Work) -> Counter[str]:
    """Classify, and write the file. Returns the counts like :func:`_write`."""
    from pneumo_edge._util import records
    from pneumo_edge._util.journal import Journal
    from pneumo_edge.cli import journal_entries, predictions

    def is_next(number: int, line: bytes) -> bool:
        found = work.found
        return number < len(found) and journal_entries.is_entry_of(
            line, records.encodable(str(found[number][0])), work.predictor
        )

    journal = Journal(out, "results", "model or engine")
    done = journal.begin(asdict(work.predictor), resume, is_next)
    with contextlib.closing(_show_progress(_predict(work, done), len(work.found), done)) as classified:
        for verdict in classified:
            journal.append(verdict)
    counts: Counter[str] = Counter()
    predictions.write(_count(journal.documents(), counts), work.predictor, out)
    journal.remove()
    return counts


def _count(verdicts: Iterable[ImageVerdict], counts: Counter[str]) -> Generator[ImageVerdict, None, None]:
    from pneumo_edge.cli import predictions

    for verdict in verdicts:
        counts[verdict.get("label", _UNCLASSIFIED)] += 1
        counts.update(predictions.remarks_on(verdict))
        yield verdict


def _show_progress(verdicts: Iterable[ImageVerdict], total: int, done: int) -> Generator[ImageVerdict, None, None]:
    """Pass results through, and show their number on a terminal."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield from verdicts
        return
    from pneumo_edge._util.progress import bar

    with bar("Classifying", total, done) as advance:
        for verdict in verdicts:
            yield verdict
            advance(1, "")


def _predict(work: _Work, done: int) -> Generator[ImageVerdict, None, None]:
    """Classify the images after the first ``done``, and draw their heatmaps if asked for."""
    from pneumo_edge._util.records import encodable
    from pneumo_edge.runtime.batch import predict_each

    found, pictures = work.found[done:], work.pictures[done:]
    paths = (path for path, problem in found if not problem)
    results = predict_each(work.classifier, paths, work.workers, explain=bool(pictures))
    with contextlib.closing(results):
        for (path, problem), picture in zip_longest(found, pictures):
            result = problem or next(results)
            if work.predictor.strict and not isinstance(result, ImageError):
                result = _refuse_out_of_distribution(result)
            if picture and not isinstance(result, ImageError):
                result = _draw(path, result, picture)
            if isinstance(result, ImageError):
                with native_output.stderr_is_heard():
                    typer.echo(f"error: {printable(path)}: {result}", err=True)
                yield {"source": encodable(str(path)), "error": str(result)}
            else:
                yield {**result.to_dict(), "source": encodable(str(path))}


def _draw(path: Path, prediction: Prediction, picture: Path) -> Prediction | ImageError:
    from pneumo_edge.imaging import heatmap, images

    try:
        x_ray = images.decode(images.read(path))
    except ImageError as error:  # the file changed after it was classified
        return error
    assert prediction.heatmap is not None
    heatmap.save(heatmap.draw(x_ray, prediction.heatmap), picture)
    return prediction


def _pictures(found: Sequence[_Found], explain: Path | None) -> list[Path]:
    """Return a different PNG path for each image; an empty list without ``--explain``."""
    if not explain:
        return []
    if explain.suffix.lower() == _PNG:
        if len(found) != 1:
            raise typer.BadParameter(
                f"{explain} is one file, but there are {len(found)} images; give a folder", param_hint="--explain"
            )
        pictures = [explain]
    else:
        if explain.exists() and not explain.is_dir():
            raise typer.BadParameter(f"{explain} is neither a {_PNG} file nor a folder", param_hint="--explain")
        pictures = [explain / name for name in _different_names(path.stem for path, _ in found)]
    images = identities(path for path, problem in found if not problem)
    for picture in pictures:
        if identities([picture]).keys() & images.keys():
            raise typer.BadParameter(f"{picture} is one of the images; give another path", param_hint="--explain")
    return pictures


def _different_names(stems: Iterable[str]) -> Iterator[str]:
    """Make PNG file names that differ by more than case. The first image with a stem gets the stem itself."""
    taken: set[str] = set()
    for stem in stems:
        # A file system takes names of up to 255 bytes, and the temporary name is longer.
        stem = os.fsdecode(os.fsencode(stem)[:_STEM_BYTES])
        others = (f"{stem}-{number}" for number in count(2))
        name = stem if stem.casefold() not in taken else next(each for each in others if each.casefold() not in taken)
        taken.add(name.casefold())
        yield f"{name}{_PNG}"


def _refuse_out_of_distribution(prediction: Prediction) -> Prediction | ImageError:
    if not prediction.out_of_distribution:
        return prediction
    return ImageError(
        "the image is out-of-distribution (unlike the images the model was trained on)",
        "an image like those",
        "Omit --strict to classify it with a remark",
    )


def _tell_out_of_distribution(flagged: int, images: int, classifier: Classifier) -> None:
    """Explain the remark, in addition to the results."""
    check = classifier.spec.input_check
    which = "the image is" if images == 1 else f"{flagged:,} of {images:,} images are"
    usual = f" (of images like those, 1 in {round(1 / (1 - check.share)):,} is flagged)" if check else ""
    with native_output.stderr_is_heard():
        typer.echo(
            f"warning: {which} out-of-distribution: unlike the images this model was trained on, "
            f"{classifier.spec.data.name}{usual}. Ignore the label and the probability.",
            err=True,
        )


def _is_file(path: Path) -> bool:
    # A file in a folder without permission is reported when it is read.
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def _find(inputs: Iterable[Path]) -> tuple[list[_Found], list[str]]:
    """Find the images to classify, and describe the files that are not images.

    Images come in the order given, those of a folder sorted. A folder without images comes with the reason.
    """
    found: list[_Found] = []
    unread: list[str] = []
    for path in inputs:
        if _is_file(path):
            found.append((path, None))
            continue
        # Imported only here, because classifying one image does not need it.
        from pneumo_edge.imaging import folders

        if not folders.is_folder(path):
            found.append((path, None))
            continue
        (tree,) = folders.search([path])
        for folder, reason in tree.closed.items():
            problem = f"the folder cannot be read ({reason})"
            found.append((folder, ImageError(problem, "a readable folder", "Check its permissions")))
        if not tree.images and not tree.closed:
            problem = "the folder contains no images"
            found.append((path, ImageError(problem, "files such as .jpeg or .png", "Give another folder")))
        found += [(image, None) for image in tree.images]
        unread += [f"{printable(path)}: {line}" for line in folders.summarize(tree.passed_over.items(), path)]
    # A folder given twice is classified twice, but its other files are named once.
    return found, list(dict.fromkeys(unread))
