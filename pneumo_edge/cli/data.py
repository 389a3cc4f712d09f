"""``pneumo-edge data``: fetch, audit, phantom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge._util import extras, files, records
from pneumo_edge._util.cache import cache_folder, writing
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import printable
from pneumo_edge.task import PNEUMONIA

if TYPE_CHECKING:
    from pneumo_edge.data.audit import Alike, Audit, Baselines, Patients
    from pneumo_edge.data.clusters import Cluster
    from pneumo_edge.data.marks import Mark
    from pneumo_edge.data.places import Place

app = typer.Typer(no_args_is_help=True, help="Download, draw and audit data sets.")

#: How many findings of each kind are shown; the JSON has all of them. Unusable files are always shown.
_SHOWN = 10


@app.command()
def fetch() -> None:
    """Download PneumoniaMNIST at 224 pixels into the cache, and print its path.

    These are real X-rays (CC BY 4.0). The file is checked by its MD5 and
    downloaded only once. The cache is $PNEUMO_EDGE_CACHE, or pneumo-edge in
    the user's cache folder. Without a network, the error names the file to
    download elsewhere and the folder to copy it to.
    """
    from pneumo_edge.data.fetch import fetch_medmnist

    folder = cache_folder()
    with writing(folder):
        path = fetch_medmnist(folder)
    typer.echo(printable(path))


@app.command()
def phantom(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to create; older phantoms are replaced.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the images; the same seed gives the same bytes.")] = 0,
    train_per_class: Annotated[int, typer.Option(min=10, help="Training images of each class.")] = 200,
    test_per_class: Annotated[int, typer.Option(min=2, help="Test images of each class.")] = 60,
) -> None:
    """Draw X-ray-like images for a machine without data. They are NOT X-rays.

    The folder has the layout and the file names of the Kermany et al. data
    set on Kaggle. Because of its file PHANTOM.txt, every model and report
    made from it is labelled as not real.
    """
    from pneumo_edge.data.phantom import make_phantom

    make_phantom(target, seed, train_per_class, test_per_class)
    typer.echo(f"{target}: {2 * (train_per_class + test_per_class)} phantom images. They are drawings, not X-rays.")


@app.command()
@datasets.read_by_options()
def audit(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_NPZ",
            help="A folder of images, with or without train, val and test, or a MedMNIST .npz file.",
        ),
    ],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write every finding as JSON.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Also draw the class counts of each split and samples of each class."),
    ] = None,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Also draw images with each burned-in mark. It shows X-rays."),
    ] = None,
    place_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Also draw how far each place of the images alone tells the classes. No X-rays."
        ),
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
) -> None:
    """Check a data set before you train on it.

    Shows the images by split and class, their sizes and colour modes, files
    that cannot be used (each with the reason), folders and files that are
    not images of a split and class, exact and near duplicates across the
    splits that training uses, patients in more than one split, the
    validation split that training will draw, burned-in marks that stand on
    training images of one class only, places whose pixels alone tell the
    classes, groups of images that look alike and are nearly all of one
    class, and how well single measures (file size, brightness, contrast,
    height, aspect ratio, tone, sharpness, JPEG quantization) separate the
    classes. For each finding it says what to do.

    The exit code is 0 if the audit ran, also if it found problems, and 3 if
    the path contains no data set.
    """
    from pneumo_edge.data.audit import audit as run_audit
    from pneumo_edge.data.figures import FORMATS, draw_audit, draw_marks, draw_places
    from pneumo_edge.data.sources import doubt_labels, doubt_pattern, open_source

    drawn = ((figure, "--figure"), (contact_sheet, "--contact-sheet"), (place_map, "--place-map"))
    for path, option in drawn:
        if path and path.suffix not in FORMATS:
            raise typer.BadParameter(f"{path} does not end in {', '.join(FORMATS)}", param_hint=option)
        if path:
            extras.need("matplotlib", "data")
    for path, option in ((json, "--json"), *drawn):
        if path:
            options.check_out(path, chain([data], data.rglob("*")), option)
    source = open_source(datasets.source(data, reading))
    findings = run_audit(source)
    _print_audit(findings)
    for remark in source.remarks:
        typer.echo(f"note: {printable(remark)}", err=True)
    for doubt in filter(None, (doubt_labels(source), doubt_pattern(source))):
        typer.echo(f"warning: {printable(doubt)}.", err=True)
    if json:
        files.write_text(json, records.document(findings))
    if figure:
        draw_audit(findings, source, figure)
    if contact_sheet and findings.marks:
        draw_marks(findings, source, contact_sheet)
    elif contact_sheet:
        typer.echo(f"No burned-in marks, so {printable(contact_sheet)} is not written.", err=True)
    if place_map and findings.places:
        draw_places(findings, place_map)
    elif place_map:
        typer.echo(f"No places were measured, so {printable(place_map)} is not written.", err=True)


def _print_audit(audit: Audit) -> None:
    from pneumo_edge.data.figures import PHANTOM_WARNING

    _heading(f"Audit of {audit.source}")
    if not audit.real:
        screen.show(PHANTOM_WARNING, "bad", bold=True)
    found = sum(sum(of_split.values()) for of_split in audit.counts.values())
    _print_result(audit, found)
    typer.echo(f"Licence: {audit.licence}")

    _heading("Images found")
    _print_counts(audit.counts)
    if audit.formats:
        typer.echo(f"Formats: {_frequencies(audit.formats)}")
    typer.echo(f"Modes: {_frequencies(audit.modes)}")
    typer.echo(f"Sizes: {_sizes(audit.sizes)}")

    _heading("Files")
    typer.echo(f"Unusable, left out of training: {len(audit.unreadable):,} of {found:,}")
    for name, reason in audit.unreadable.items():
        typer.echo(f"  {printable(name)}: {reason}")
    typer.echo(f"Of another type than their ending, used anyway: {len(audit.wrong_endings):,}")
    for file in audit.wrong_endings:
        typer.echo(f"  {printable(file.name)}: {file.content}")
    typer.echo(f"Not images of a split and class, not used: {len(audit.passed_over):,}")
    _print_some(f"{name}: {why}" for name, why in sorted(audit.passed_over.items(), key=_folders_first))

    _heading("Duplicates")
    _print_alike("Groups of identical files", audit.exact_duplicates)
    _print_alike("Pairs of near duplicates by perceptual hash", audit.near_duplicates)

    _heading("Patients")
    if audit.patients:
        _print_patients(audit.patients)
    else:
        typer.echo(
            "No patients found in the file names, so shared patients between splits cannot be detected. If the names "
            "contain patients, give --patient-pattern."
        )

    _heading("What training will use")
    if audit.training_split:
        _print_counts(audit.training_split.counts)
        typer.echo(f"Rule: {audit.training_split.rule}")
        typer.echo(f"Fingerprint: {audit.training_split.fingerprint}")
        copies = audit.training_split.left_out.keys() - audit.unreadable.keys()
        typer.echo(f"Left out as unusable: {len(audit.unreadable):,}")
        typer.echo(f"Left out as copies of test or validation images: {len(copies):,}")
        _print_some(f"{name}: {audit.training_split.left_out[name]}" for name in sorted(copies))
    else:
        typer.echo(f"Nothing: {audit.training_problem}")

    _heading("Burned-in marks: patterns on training images of one class only")
    _print_marks(audit.marks or ())

    _heading("Places: how far the pixels at one place of the training images alone tell the classes")
    _print_places(audit.places)

    _heading("Look: groups of similar training images, nearly all of one class")
    _print_clusters(audit.clusters)

    _heading("Shortcuts: baselines a model has to beat on the test split")
    if audit.baselines:
        _print_baselines(audit.baselines)
    else:
        typer.echo("Not computed: needs at least two usable test images of each class.")

    _heading("What to do")
    for sentence in audit.advice or ("Nothing was found.",):
        typer.echo(printable(sentence))


def _print_result(audit: Audit, found: int) -> None:
    """Print the audit in a line: what would make a model's numbers wrong, if anything does."""
    across = sum(len(group.splits) > 1 for group in (*audit.exact_duplicates, *audit.near_duplicates))
    shared = f"{len(audit.patients.shared):,}" if audit.patients else "not known how many"
    harmless = not audit.unreadable and not across and audit.patients is not None and not audit.patients.shared
    screen.show(
        f"{found:,} images: {len(audit.unreadable):,} unusable, {across:,} groups of copies across splits, {shared} "
        "patients in more than one split",
        "good" if harmless else "open",
    )


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    class_names = list(next(iter(counts.values())))
    rows = [
        [split, *(f"{of_split[name]:,}" for name in class_names), f"{sum(of_split.values()):,}"]
        for split, of_split in counts.items()
    ]
    _print_table(["split", *class_names, "total"], rows)


def _print_alike(what: str, groups: tuple[Alike, ...]) -> None:
    across_splits = [group for group in groups if len(group.splits) > 1]
    across_classes = [group for group in groups if len(group.classes) > 1]
    typer.echo(
        f"{what}: {len(groups):,} (across splits: {len(across_splits):,}, across classes: {len(across_classes):,})"
    )
    # The most harmful first.
    ordered = sorted(groups, key=lambda group: (-len(group.classes), -len(group.splits)))
    _print_some(" = ".join(group.names) + (f" ({group.distance} bits)" if group.distance else "") for group in ordered)


def _print_patients(patients: Patients) -> None:
    alone = ", counting each image without a known patient as one" if patients.unnamed else ""
    typer.echo(f"Patients, by person and kind of pneumonia{alone}: {_frequencies(patients.counts)}")
    typer.echo(f"Most images of one patient: {patients.most_images}")
    copies = f" ({patients.copies:,} of these are copies of one another by name)" if patients.copies else ""
    typer.echo(f"Images without a patient in their name: {patients.unnamed:,}{copies}")
    typer.echo(f"Patients in more than one split: {len(patients.shared):,}")
    _print_some(
        f"{shared.patient} {shared.kind}".rstrip() + ": " + _frequencies(shared.images) for shared in patients.shared
    )
    if patients.repeated_numbers:
        typer.echo(
            f"Bare person numbers in more than one split: {patients.repeated_numbers:,} (each split may number its "
            "persons from 1, so this alone does not show a shared patient)"
        )


def _print_marks(marks: Sequence[Mark]) -> None:
    if not marks:
        typer.echo("None found.")
        return
    rows = [
        [
            mark.frame,
            f"{mark.left:.0%} right, {mark.top:.0%} down",
            printable(mark.class_name),
            *(_by_split(mark.counts, mark.class_name, own) for own in (True, False)),
            f"{mark.p_value:.1g}",
        ]
        for mark in marks
    ]
    _print_table(["seen in", "place", "class", "images of the class", "of others", "p"], rows, words=3)
    typer.echo("In small data sets a pattern may also be anatomy. Look at the images: --contact-sheet FILE.png.")


def _print_places(places: Sequence[Place] | None) -> None:
    if places is None:
        typer.echo("Not computed: needs at least ten patients of each class outside the test split.")
        return
    from pneumo_edge.data.places import GRID

    whole, cells = places[: -(GRID**2)], places[-(GRID**2) :]
    typer.echo(", ".join(f"{place.name} AUC {place.auc}" for place in whole))
    rows = [
        [str(row + 1), *(f"{place.auc.value:.2f}" for place in cells[row * GRID : (row + 1) * GRID])]
        for row in range(GRID)
    ]
    _print_table(["row", *map(str, range(1, GRID + 1))], rows)
    typer.echo("Brackets hold for all places together with 95 % confidence (Bonferroni).")


def _print_clusters(clusters: Sequence[Cluster] | None) -> None:
    if clusters is None:
        typer.echo('Not computed: needs SciPy. Run: pip install "pneumo-edge[data]"')
    elif not clusters:
        typer.echo("None found.")
    else:
        rows = [
            [
                printable(cluster.class_name),
                "; ".join(f"{trait.measure} {trait.inside:.3g}, else {trait.outside:.3g}" for trait in cluster.traits),
                *(_by_split(cluster.counts, cluster.class_name, own) for own in (True, False)),
                f"{cluster.p_value:.1g}",
            ]
            for cluster in clusters[:_SHOWN]
        ]
        _print_table(["class", "in common (median)", "images of the class", "of others", "p"], rows, words=2)
        if len(clusters) > _SHOWN:
            typer.echo(f"and {len(clusters) - _SHOWN:,} more; --json FILE writes all of them")


def _by_split(counts: dict[str, dict[str, int]], class_name: str, own: bool) -> str:
    found = {
        split: sum(count for name, count in of_split.items() if (name == class_name) == own)
        for split, of_split in counts.items()
    }
    return _frequencies({split: count for split, count in found.items() if count})


def _print_baselines(baselines: Baselines) -> None:
    rows = [
        [row.measure, f"{row.pneumonia_is} in {_in_text(row.class_name)}", f"{row.train_auc:.3f}", str(row.test_auc)]
        for row in baselines.shortcuts
    ]
    _print_table(["alone", "direction (from train)", "train AUC", "test AUC [95 % interval]"], rows)
    typer.echo(f"Always {baselines.majority_class}: test accuracy {baselines.majority_accuracy}")


def _in_text(class_name: str) -> str:
    return "pneumonia" if class_name == PNEUMONIA.positive_class else printable(class_name)


def _frequencies(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:_SHOWN])
    rest = len(counts) - _SHOWN
    return f"{shown} and {rest:,} others" if rest > 0 else shown or "none"


def _sizes(sizes: dict[str, int]) -> str:
    if len(sizes) <= _SHOWN:
        return _frequencies(sizes)
    widths, heights = zip(*(map(int, size.split("x")) for size in sizes), strict=True)
    return (
        f"{len(sizes):,} different ones, {min(widths):,} to {max(widths):,} pixels wide "
        f"and {min(heights):,} to {max(heights):,} high"
    )


def _print_some(lines: Iterable[str]) -> None:
    """Print the first findings, one per line, and the number of the others."""
    found = list(lines)
    for line in found[:_SHOWN]:
        typer.echo(f"  {printable(line)}")
    if len(found) > _SHOWN:
        typer.echo(f"  and {len(found) - _SHOWN:,} more; --json FILE writes all of them")


def _folders_first(row: tuple[str, str]) -> tuple[bool, str]:
    return not row[0].endswith("/"), row[0]


def _heading(text: str) -> None:
    typer.echo()
    screen.show(text, bold=True)


def _print_table(header: list[str], rows: list[list[str]], words: int = 1) -> None:
    """Print a table whose first columns are words and whose others are numbers."""
    from pneumo_edge._util.document import Cell, Table

    # The value alone tells that a column is of numbers.
    cells = (tuple(Cell(text, value=0.0 if index >= words else None) for index, text in enumerate(row)) for row in rows)
    screen.show_table(Table(tuple(header), words, tuple(cells)))
