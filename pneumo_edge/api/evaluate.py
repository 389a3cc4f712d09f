"""``pneumo_edge.evaluate``: from model files to metrics on a split of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import scoring, studies
from pneumo_edge._util import cores, extras, jobs, outputs
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, Models, PathArgument, Tell
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.sources import SplitName, recorded_path
from pneumo_edge.errors import ArgumentError
from pneumo_edge.runtime.engines import ENGINES
from pneumo_edge.scoring import Paths, run
from pneumo_edge.scoring import scores as scores_file
from pneumo_edge.scoring.models import Skipped, find_models, read_models
from pneumo_edge.scoring.scores import EvaluationScores
from pneumo_edge.scoring.summary import Metrics

_SCORES_NAME = "scores.json"


@dataclass(frozen=True)
class Evaluation:
    """Scores and metrics of model files on a split.

    Attributes:
        metrics: Every metric with its interval: for each file, over seeds, and between backbones.
        scores: The probability of every image by every file; the metrics are computed from them.
        skipped: Files that could not be scored, each with its reason.
        files: Paths of the files that were written: metrics, page and figures.
    """

    metrics: Metrics
    scores: EvaluationScores
    skipped: tuple[Skipped, ...]
    files: Paths


def evaluate(
    models: Models,
    data: DataArgument | None = None,
    *,
    split: SplitName = "val",
    external: bool = False,
    engine: str | None = None,
    threads: int = 1,
    patient_pattern: str | None = None,
    out: PathArgument | None = None,
    tell: Tell = arguments.print_line,
) -> Evaluation:
    """Score model files on a split, and compute every metric with its interval.

    Files already in the folder's ``scores.json`` are not scored again, so the same call resumes an interrupted one.
    Score the test split once for each final model, after all choices are made.

    Args:
        models: Model files, folders with model files, or names of bundled models; one or several. Or the folder of a
            study, for the files that were exported from it.
        data: The data set, as for :func:`pneumo_edge.train`; by default that of the study.
        split: ``"val"``, drawn from train by patient as ``train`` does, or ``"test"``.
        external: Score all images of the data set, of every split, as another population, and decide whether each
            file may be used there (:mod:`pneumo_edge.scoring.external`).
        engine: As for :class:`pneumo_edge.Classifier`.
        threads: Threads for one inference, 1 to 256.
        patient_pattern: As for :func:`pneumo_edge.train`; "" for none. By default the pattern in the models.
        out: Folder for ``scores.json``, ``metrics.json``, ``evaluation.md`` and figures; by default
            ``reports/evaluation-SPLIT``, or ``reports/evaluation-external``; of a study, in its folder.
        tell: Called with each note, warning and skipped file, a line each; by default they are printed on standard
            error.

    Returns:
        Metrics and scores. A file that failed is in ``skipped``; the others are scored.

    Raises:
        ArgumentError: There is no data set, the split or engine is unknown, ``threads`` is out of range, ``out`` is a
            file, or a model was trained on data that is to be another population.
        DataError: The data cannot be used.
        ResultsError: Nothing can be scored, or ``scores.json`` is damaged or was made on other images.
        BusyError: Another process writes the same files.
        MissingExtraError: The extra ``report`` is not installed.

    Example:
        >>> evaluation = pneumo_edge.evaluate(files, "chest_xray", split="test")
        >>> evaluation.metrics.models[0].metrics["auc"]
        0.981 [0.972, 0.989]
    """
    arguments.check_name("split", split, arguments.SCORED_SPLITS)
    if engine is not None:
        arguments.check_name("engine", engine, ENGINES)
    threads = arguments.whole("threads", threads, 1, cores.MOST)
    study = study_of(arguments.paths(models))
    if data is None and (study is None or external):
        raise ArgumentError("no data set was given", "the images to score", "Give data (--data)")
    folder = Path(out) if out is not None else default_folder(study, "external" if external else split)
    skipped: list[Skipped] = []

    def skip(one: Skipped) -> None:
        skipped.append(one)
        tell(describe_skipped(one))

    with _alone_in(folder):
        files = arguments.model_paths(models) if study is None else [_exported(study, tell)]
        if data is None:
            assert study is not None  # checked above
            data = data_of(study)
        scores = run.score(
            files,
            datasets.open_data(data, patient_pattern, files, needs_splits=not external, tell=tell),
            "test" if external else split,
            folder / _SCORES_NAME,
            external=external,
            engine=engine,
            threads=threads,
            tell=skip,
            warn=lambda text: tell(f"warning: {text}."),
        )
        return _write(scores, folder, skipped)


def study_of(paths: Sequence[Path]) -> Path | None:
    """The folder of a study, where it is given alone."""
    return paths[0] if len(paths) == 1 and studies.is_study(paths[0]) else None


def data_of(study: Path) -> DataSource:
    """Where the data of a study lies; how it is read is in its model files.

    Raises:
        DataError: It is not there any more.
        ResultsError: The table of the study is damaged.
    """
    found = studies.load(study)
    path = recorded_path(found.data_path, study)
    return DataSource(path, labels=found.data_paths.get("labels"), test=found.data_paths.get("test"))


def default_folder(study: Path | None, what: str) -> Path:
    """The default folder of an evaluation of a split, or of another population."""
    return (study or Path("reports")) / f"evaluation-{what}"


def _exported(study: Path, tell: Tell) -> Path:
    """The folder of a study's model files; finished runs that have none there are named."""
    folder = study / studies.MODELS
    if not folder.is_dir():
        raise ArgumentError(
            f"no model files were exported from the study {study}",
            f"model files in {folder}",
            f"Run: pneumo-edge export {study}",
        )
    specs = [model.spec for model in read_models(find_models([folder]), lambda skipped: None)]
    exported = {(spec.backbone, spec.training.recipe, spec.training.seed) for spec in specs}
    finished = [run for run in studies.load(study).runs if studies.is_finished(study, run)]
    lacking = [run.name for run in finished if (run.backbone, run.recipe, run.seed) not in exported]
    if lacking:
        tell(
            f"warning: {len(lacking)} of the {len(finished)} finished runs have no model files in {folder}: "
            f"{', '.join(lacking)}. Run: pneumo-edge export {study}"
        )
    return folder


def evaluate_scores(scores: Path, out: Path | None) -> Evaluation:
    """Recompute all metrics from a ``scores.json``.

    Args:
        scores: The file.
        out: Folder for the results; by default the folder of the file.

    Raises:
        ArgumentError: ``out`` cannot be written to.
        ResultsError: The file is damaged.
        BusyError: Another process writes the same files.
        MissingExtraError: The extra ``report`` is not installed.
    """
    folder = out or scores.parent
    with _alone_in(folder, scores):
        return _write(scores_file.read(scores), folder, ())


def describe_skipped(skipped: Skipped) -> str:
    """Describe a skipped file and the reason in one line."""
    on = f" on {skipped.engine}" if skipped.engine else ""
    return f"{'error' if skipped.failed else 'skipped'}: {skipped.model}{on}: {skipped.reason}"


@contextmanager
def _alone_in(folder: Path, *inputs: Path) -> Iterator[None]:
    # Report a missing library before minutes of scoring, not after.
    extras.need("matplotlib", "report")
    outputs.check_folder(folder)
    for path in scoring.paths(folder):
        outputs.check_file(path, inputs)
    with jobs.alone(folder / _SCORES_NAME, "evaluation", jobs.SAME_COMMAND):
        yield


def _write(scores: EvaluationScores, folder: Path, skipped: Sequence[Skipped]) -> Evaluation:
    metrics, files = scoring.write(scores, folder)
    return Evaluation(metrics, scores, tuple(skipped), files)
