"""``pneumo_edge.evaluate``: from model files to metrics on a split of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import scoring
from pneumo_edge._util import cores, extras, jobs, outputs
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import Models, PathArgument, Tell
from pneumo_edge.data.sources import SplitName
from pneumo_edge.runtime.engines import ENGINES
from pneumo_edge.scoring import Paths, run
from pneumo_edge.scoring import scores as scores_file
from pneumo_edge.scoring.models import Skipped
from pneumo_edge.scoring.scores import EvaluationScores
from pneumo_edge.scoring.summary import Metrics

_SCORES_NAME = "scores.json"


@dataclass(frozen=True)
class Evaluation:
    """What files score on a split.

    Attributes:
        metrics: Every metric with its interval: of each file, over seeds, and between backbones.
        scores: The probability of every image by every file, from which the metrics follow.
        skipped: Files that could not be scored, each with its reason.
        files: What was written: metrics, page and figures.
    """

    metrics: Metrics
    scores: EvaluationScores
    skipped: tuple[Skipped, ...]
    files: Paths


def evaluate(
    models: Models,
    data: PathArgument,
    *,
    split: SplitName = "val",
    engine: str | None = None,
    threads: int = 1,
    patient_pattern: str | None = None,
    out: PathArgument | None = None,
    tell: Tell = arguments.print_line,
) -> Evaluation:
    """Score model files on a split, and compute every metric with its interval.

    Files that the folder's ``scores.json`` holds already are not scored again, so an interrupted call is resumed by
    the same call. Score the test split once for each final model, when nothing is left to choose.

    Args:
        models: Model files, folders that are searched for them, or names of bundled models; one or several.
        data: The data set, as for :func:`pneumo_edge.train`.
        split: ``"val"``, drawn out of train by patient as ``train`` does it, or ``"test"``.
        engine: ``"litert"``, ``"tflite-runtime"`` or ``"onnxruntime"``; by default the best one that is installed.
        threads: Threads for one inference, 1 to 256.
        patient_pattern: As for :func:`pneumo_edge.train`; "" for none. By default that of the models.
        out: Folder for ``scores.json``, ``metrics.json``, ``evaluation.md`` and figures; by default
            ``reports/evaluation-SPLIT``.
        tell: Called with each note, warning and skipped file, a line each; by default they are printed on standard
            error.

    Returns:
        Metrics and scores. A file that failed is in ``skipped``, and the others are scored all the same.

    Raises:
        ArgumentError: There is no such split or engine, ``threads`` is no such number, or ``out`` is a file.
        DataError: The data cannot be used.
        ResultsError: Nothing can be scored, or ``scores.json`` is damaged or of other images.
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
    folder = Path(out) if out is not None else Path("reports", f"evaluation-{split}")
    skipped: list[Skipped] = []

    def skip(one: Skipped) -> None:
        skipped.append(one)
        tell(describe_skipped(one))

    with _alone_in(folder):
        files = arguments.model_paths(models)
        scores = run.score(
            files,
            datasets.open_data(Path(data), patient_pattern, files, tell=tell),
            split,
            folder / _SCORES_NAME,
            engine=engine,
            threads=threads,
            tell=skip,
            warn=lambda text: tell(f"warning: {text}."),
        )
        return _write(scores, folder, skipped)


def evaluate_scores(scores: Path, out: Path | None) -> Evaluation:
    """Compute everything again from a ``scores.json``.

    Args:
        scores: The file.
        out: Folder for what is computed; by default that of the file.

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
    """Name a file that was not measured, with the reason, in a line."""
    on = f" on {skipped.engine}" if skipped.engine else ""
    return f"{'error' if skipped.failed else 'skipped'}: {skipped.model}{on}: {skipped.reason}"


@contextmanager
def _alone_in(folder: Path, *inputs: Path) -> Iterator[None]:
    # What the page lacks should be known before minutes of scoring, not after.
    extras.need("matplotlib", "report")
    outputs.check_folder(folder)
    for path in scoring.paths(folder):
        outputs.check_file(path, inputs)
    with jobs.alone(folder / _SCORES_NAME, "evaluation", jobs.SAME_COMMAND):
        yield


def _write(scores: EvaluationScores, folder: Path, skipped: Sequence[Skipped]) -> Evaluation:
    metrics, files = scoring.write(scores, folder)
    return Evaluation(metrics, scores, tuple(skipped), files)
