"""``pneumo_edge.train_study``: several networks, each trained with several seeds, as one study."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_edge import backbones, runs, studies
from pneumo_edge._util import cores, jobs
from pneumo_edge._util.cache import cache_folder
from pneumo_edge._util.progress import bar
from pneumo_edge._util.subprocesses import begin
from pneumo_edge.api import arguments
from pneumo_edge.api import train as single
from pneumo_edge.api.arguments import DataArgument, PathArgument, Tell
from pneumo_edge.api.train import TrainedRun
from pneumo_edge.backbones import BACKBONES, SIDE, Backbone
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ArgumentError, PneumoEdgeError, TrainingError
from pneumo_edge.scale import cluster
from pneumo_edge.scoring import trainings
from pneumo_edge.scoring.trainings import TrainingsCompared
from pneumo_edge.studies import State, Study, StudyRun
from pneumo_edge.training import initial_weights, tasks
from pneumo_edge.training.initial_weights import InitialWeights
from pneumo_edge.training.recipes import RECIPES
from pneumo_edge.training.tasks import Task

#: Cores of a run where nothing else is said: the networks of the table are too small to use many more.
_MOST_CORES = 4
#: What training took at most, on 120,000 images (``make large-data``), rounded up.
MEMORY_BYTES = 3 * 10**9


@dataclass(frozen=True)
class TrainedStudy:
    """A study. It can be used wherever the path of its folder can.

    Attributes:
        folder: The folder with ``study.json`` and the folders of the runs.
        study: The table of the runs.
    """

    folder: Path
    study: Study

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def runs(self) -> tuple[TrainedRun, ...]:
        """The finished runs."""
        finished = (run for run in self.study.runs if studies.is_finished(self.folder, run))
        return tuple(TrainedRun(self.folder / run.name, runs.load(self.folder / run.name)) for run in finished)

    @property
    def failed(self) -> tuple[StudyRun, ...]:
        """The runs that failed when they were last tried; ``error`` says why."""
        return tuple(run for run in self.study.runs if studies.state(self.folder, run) == "failed")

    def compare(self) -> TrainingsCompared:
        """Compare the finished runs on their validation images.

        Raises:
            TrainingError: No run is finished.
            ResultsError: A file of a run is damaged.
        """
        return trainings.compare(studies.finished(self.folder))


@dataclass(frozen=True)
class StudyPlan:
    """What is to be trained.

    Attributes:
        data: The data set.
        backbones: The networks.
        recipe: Name of the recipe.
        seeds: The seeds of each network.
        weights: As for :func:`pneumo_edge.train`; a folder has files of several networks.
        folder: The folder of the study.
        cores: Cores of each run; None for those that the study has for it already, or a default.
        memory_bytes: Memory that is set aside for each run; None likewise.
        address: Address of a Ray cluster that trains; None for this machine.
    """

    data: DataSource
    backbones: tuple[Backbone, ...]
    recipe: str
    seeds: tuple[int, ...]
    weights: Path | None
    folder: Path
    cores: int | None = None
    memory_bytes: int | None = None
    address: str | None = None


def train_study(
    data: DataArgument,
    backbones: Sequence[str],
    seeds: Sequence[int],
    *,
    recipe: str = "best",
    image_size: int | None = None,
    alpha: float = 1.0,
    weights: PathArgument | None = None,
    patient_pattern: str | None = None,
    out: PathArgument | None = None,
    cores: int | None = None,
    memory_bytes: int | None = None,
    address: str | None = None,
    tell: Tell = arguments.print_line,
) -> TrainedStudy:
    """Train several networks, each with several seeds, as one study.

    Each run is trained in a process of its own, as many at a time as there are cores and memory for. It is bit for
    bit the run that :func:`pneumo_edge.train` makes with as many cores. A run that fails does not stop the others. The
    same call resumes an interrupted study, and tries failed runs again. Other networks, recipes and seeds are added to
    the study.

    Args:
        data: As for :func:`pneumo_edge.train`.
        backbones: Names of rows of the table of backbones; one or several.
        seeds: Seeds of each network, 0 or more; one or several.
        recipe: As for :func:`pneumo_edge.train`.
        image_size: As for :func:`pneumo_edge.train`.
        alpha: As for :func:`pneumo_edge.train`; all networks must have it.
        weights: As for :func:`pneumo_edge.train`; a folder has files of several networks.
        patient_pattern: As for :func:`pneumo_edge.train`.
        out: Folder of the study; by default ``runs/study-RECIPE``.
        cores: Cores of each run, 1 to 256; by default those of the machine, at most 4. A run that was started keeps its
            number, because sums depend on it.
        memory_bytes: Memory that is set aside for each run; by default 3 GB.
        address: Train on a Ray cluster: ``"auto"``, ``"local"``, ``"ray://HOST:PORT"`` or ``"HOST:PORT"``. All nodes
            must have pneumo-edge, and this machine's paths of the data, of the weights and of ``out``.
        tell: As for :func:`pneumo_edge.train`.

    Returns:
        The study with its finished runs, and with those that failed.

    Raises:
        ArgumentError: As :func:`pneumo_edge.train`; or no backbone or no seed is given, or one twice.
        DataError: The data cannot be used.
        TrainingError: The folder contains a study of other images, or the weights of a network cannot be used.
        BusyError: Another process trains the study.
        WorkerError: There is no Ray cluster at the address.
        MissingExtraError: The extra ``train`` is not installed; or ``scale``, for a cluster.

    Example:
        >>> study = pneumo_edge.train_study("chest_xray", ["mobilenetv2", "efficientnetb0"], range(5))
        >>> study.compare().over_seeds[0].metrics["auc"].mean
        0.997 [0.996, 0.998]
    """
    arguments.check_name("recipe", recipe, RECIPES)
    side = SIDE if image_size is None else arguments.whole("image_size", image_size, 1)
    source = DataSource.of(data)
    if patient_pattern is not None:
        source = replace(source, patient_pattern=patient_pattern)
    plan = StudyPlan(
        data=source,
        backbones=networks([backbones] if isinstance(backbones, str) else backbones, alpha, side),
        recipe=recipe,
        seeds=tuple(arguments.whole("seed", seed, 0) for seed in seeds),
        weights=None if weights is None else Path(weights),
        folder=Path(out) if out is not None else default_folder(recipe),
        cores=None if cores is None else arguments.whole("cores", cores, 1),
        memory_bytes=None if memory_bytes is None else arguments.whole("memory_bytes", memory_bytes, 1),
        address=address,
    )
    for _ in carry_out(plan, tell):
        pass
    return TrainedStudy(plan.folder, studies.load(plan.folder))


@dataclass(frozen=True)
class RunShown:
    """A run of a study: how far it is, and what it found on validation images.

    Attributes:
        name: Name of its folder inside that of the study.
        backbone: Name of the network.
        recipe: Name of the recipe.
        seed: The seed.
        state: How far it is.
        error: Why it failed when it was last tried, or what is wrong with its network; "" where nothing is.
        epochs: Its epochs; None where it is not finished.
        validation: Its metrics on validation images; empty where it is not finished.
    """

    name: str
    backbone: str
    recipe: str
    seed: int
    state: State
    error: str
    epochs: int | None
    validation: dict[str, float]


@dataclass(frozen=True)
class StudyShown:
    """What ``pneumo-edge study --json`` prints: the runs, and their comparison; null where none is finished."""

    runs: tuple[RunShown, ...]
    compared: TrainingsCompared | None


def show(folder: Path) -> StudyShown:
    """Describe the runs of a study, and compare those that are finished.

    Raises:
        TrainingError: The folder holds no study.
        ResultsError: Its table, or a file of a run, is damaged, or the two differ.
        ConversionError: The record of a run is not valid.
    """
    shown, finished = [], []
    for row in sorted(studies.load(folder).runs, key=lambda row: (row.backbone, row.recipe, row.seed)):
        state, training, error = studies.state(folder, row), None, row.error
        if state == "finished":
            try:
                studies.check(folder, row)
                finished.append(folder / row.name)
                training = runs.load(folder / row.name).training
            except TrainingError as damaged:
                state, error = "failed", str(damaged)
        shown.append(
            RunShown(
                *(row.name, row.backbone, row.recipe, row.seed, state),
                error=error if state == "failed" else "",
                epochs=training.epochs if training else None,
                validation=training.validation if training else {},
            )
        )
    return StudyShown(tuple(shown), trainings.compare(finished) if finished else None)


def default_folder(recipe: str) -> Path:
    """Return the default folder of a study."""
    return Path("runs", f"study-{recipe}")


def networks(names: Sequence[str], alpha: float, side: int) -> tuple[Backbone, ...]:
    """The networks of a study.

    Raises:
        ArgumentError: There is none, one is given twice, or one is not available with this width or image size.
    """
    for name in names:
        arguments.check_name("backbone", name, BACKBONES)
    if not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"the backbones are {', '.join(names) or 'none'}", "one or several, each once", "Give each backbone once"
        )
    return tuple(backbones.variant(name, alpha, side) for name in names)


def carry_out(plan: StudyPlan, tell: Tell) -> Iterator[tuple[StudyRun, TrainedRun | PneumoEdgeError]]:
    """Train what a plan has and the study lacks, under the lock of the study.

    Args:
        plan: What is to be trained.
        tell: Called with each note and warning, a line each.

    Yields:
        Each run of the plan that is finished or failed, as soon as it is known; at first those that were finished
        before.

    Raises:
        PneumoEdgeError: As :func:`train_study`.
    """
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise ArgumentError(
            f"the seeds are {', '.join(map(str, plan.seeds)) or 'none'}", "one or several, each once", "Give seeds"
        )
    if plan.address is not None:
        cluster.check(plan.address)
    elif plan.cores is not None and plan.cores > cores.available():
        raise ArgumentError(
            f"--cores is {plan.cores:,}, and this machine has {cores.available():,} for it",
            f"1 to {cores.available():,}",
            "Give fewer cores, or an --address",
        )
    dataset = _read(plan, tell)
    with jobs.alone(plan.folder / studies.RECORD_NAME, "study", jobs.SAME_COMMAND, "--study"):
        study = _table(plan, dataset)
        rows = {name: next(run for run in study.runs if run.name == name) for name in _names(plan)}
        missing = {name: run for name, run in rows.items() if not studies.is_finished(plan.folder, run)}
        # A call that is refused leaves the table as it was.
        weights = _find_weights(plan, {run.backbone for run in missing.values()})
        given = [_task(plan, run, weights[run.backbone]) for run in missing.values()]
        with contextlib.ExitStack() as open_until_done:
            outcomes = open_until_done.enter_context(_carried_out(plan, given))
            study.save(plan.folder)
            for name, run in rows.items():
                if name not in missing:
                    yield run, _checked(plan, run)
            advance = open_until_done.enter_context(bar("Training the study", len(rows), len(rows) - len(missing)))
            for task, outcome in outcomes:
                run, failed = rows[task.name], isinstance(outcome, PneumoEdgeError)
                run = replace(run, error=str(outcome) if failed else "")
                study = study.with_run(run)
                study.save(plan.folder)
                advance(1, f"{run.name} failed" if failed else run.name)
                yield run, outcome if isinstance(outcome, PneumoEdgeError) else _trained(plan, run)


@contextlib.contextmanager
def _carried_out(
    plan: StudyPlan, given: Sequence[_Run]
) -> Iterator[Iterator[tuple[_Run, _Training | PneumoEdgeError]]]:
    """Be ready to carry out tasks here, or on the cluster of the plan; they start with the first that is asked for."""
    with contextlib.ExitStack() as stack:
        runner = tasks.here
        if plan.address is not None and given:
            stack.enter_context(cluster.connected(plan.address))
            tasks.check_nodes(given)
            runner = tasks.on_ray
        yield stack.enter_context(contextlib.closing(runner(given)))


def _read(plan: StudyPlan, tell: Tell) -> Dataset:
    """Decode the data once for all runs, which find it in the cache."""
    source = single.open_data(plan.data, None, plan.folder, tell)
    of_side = {side: prepare(source, cache_folder(), side, side) for side in {row.side for row in plan.backbones}}
    dataset = of_side[plan.backbones[0].side]
    for line in single.describe(dataset, plan.folder / next(iter(_names(plan))) / runs.MANIFEST_NAME):
        tell(line)
    if not dataset.manifest.real:
        tell(single.PHANTOM)
    return dataset


def _names(plan: StudyPlan) -> dict[str, tuple[Backbone, int]]:
    """The network and the seed of each run by its name, the first seed of every network first."""
    return {
        f"{single.default_folder(row, plan.recipe).name}-{seed}": (row, seed)
        for seed in plan.seeds
        for row in plan.backbones
    }


def _table(plan: StudyPlan, dataset: Dataset) -> Study:
    """The table of the study with the runs of the plan.

    Raises:
        TrainingError: The folder contains a study of other images.
    """
    manifest = dataset.manifest
    study = Study(str(Path(plan.data).resolve()), manifest.fingerprint, (), data_paths=plan.data.paths)
    if studies.is_study(plan.folder):
        study = studies.load(plan.folder)
        if study.fingerprint != manifest.fingerprint:
            raise TrainingError(
                f"{plan.folder} contains a study of other images, or of another split ({study.data_path})",
                "the images that it was started with",
                "Give another folder for the study",
            )
    found = {run.name: run for run in study.runs}
    for name, (row, seed) in _names(plan).items():
        given_cores, given_memory = plan.cores, plan.memory_bytes
        if run := found.get(name):
            given_cores, given_memory = given_cores or run.cores, given_memory or run.memory_bytes
        if run is None or not studies.is_finished(plan.folder, run):
            study = study.with_run(
                StudyRun(
                    name=name,
                    backbone=row.name,
                    recipe=plan.recipe,
                    seed=seed,
                    cores=given_cores or min(cores.available(), _MOST_CORES),
                    memory_bytes=given_memory or MEMORY_BYTES,
                    error=run.error if run else "",
                )
            )
    return study


def _trained(plan: StudyPlan, run: StudyRun) -> TrainedRun:
    folder = plan.folder / run.name
    return TrainedRun(folder, runs.load(folder))


def _checked(plan: StudyPlan, run: StudyRun) -> TrainedRun | PneumoEdgeError:
    """A run that was finished before, or what is wrong with it."""
    try:
        studies.check(plan.folder, run)
    except PneumoEdgeError as error:
        return error
    return _trained(plan, run)


@dataclass(frozen=True)
class _Wanted:
    """Networks whose initial weights are wanted, and what the user gave for them."""

    backbones: tuple[str, ...]
    weights: str | None


@dataclass(frozen=True)
class _Weights:
    """Initial weights, as JSON can hold them."""

    description: str
    path: str | None


@dataclass(frozen=True)
class _Found:
    """The initial weights of each network, in order."""

    weights: tuple[_Weights, ...]


def _find_weights(plan: StudyPlan, names: set[str]) -> dict[str, _Weights]:
    """Find the initial weights of each network once, so that all of its runs start from the same.

    In a child process, because this one can do without TensorFlow.
    """
    wanted = tuple(row.name for row in plan.backbones if row.name in names)
    if not wanted:
        return {}

    def crashed(how: str) -> TrainingError:
        return TrainingError(
            f"initial weights could not be found (the process crashed: {how})",
            "weights of each network",
            "Give --weights, or train one network alone to see the reason",
        )

    given = None if plan.weights is None else str(plan.weights.absolute())
    with begin(find_weights, _Wanted(wanted, given), crashed, errors="shown") as begun:
        return dict(zip(wanted, begun.answer().weights, strict=True))


def find_weights(wanted: _Wanted) -> _Found:
    """Find the initial weights of networks; runs in a child process.

    Raises:
        TrainingError: There are none, or they do not fit.
    """
    single.import_keras()
    given = None if wanted.weights is None else Path(wanted.weights)
    found = [initial_weights.find(_backbone(name), given) for name in wanted.backbones]
    return _Found(tuple(_Weights(each.description, None if each.path is None else str(each.path)) for each in found))


@dataclass(frozen=True)
class _Training:
    """A run to train; all paths are absolute."""

    data: DataSource
    backbone: str
    recipe: str
    seed: int
    weights: _Weights
    folder: str


_Run = Task[_Training, _Training]


def _task(plan: StudyPlan, run: StudyRun, weights: _Weights) -> _Run:
    return Task(
        name=run.name,
        function=train_run,
        argument=_Training(
            data=_absolute(plan.data),
            backbone=run.backbone,
            recipe=run.recipe,
            seed=run.seed,
            weights=weights,
            folder=str(plan.folder.absolute() / run.name),
        ),
        cores=run.cores,
        memory_bytes=run.memory_bytes,
        log=plan.folder.absolute() / studies.LOGS / f"{run.name}.log",
    )


def _absolute(data: DataSource) -> DataSource:
    """The same with absolute paths, for processes that may run elsewhere."""
    paths = {name: str(Path(value).absolute()) for name in ("path", "test", "labels") if (value := getattr(data, name))}
    return replace(data, **paths)


def train_run(training: _Training) -> _Training:
    """Train a run of a study; runs in a child process.

    Raises:
        PneumoEdgeError: As :func:`pneumo_edge.train`.
    """
    folder, row = Path(training.folder), _backbone(training.backbone)
    weights = training.weights
    dataset = single.read_data(training.data, None, folder, arguments.print_line, row.side)
    single.train_on(
        dataset,
        Path(training.data),
        row,
        training.recipe,
        InitialWeights(weights.description, None if weights.path is None else Path(weights.path)),
        folder,
        training.seed,
    )
    return training


def _backbone(name: str) -> Backbone:
    found = backbones.find(name)
    if found is None:
        raise ArgumentError(f"the backbone is {name!r}", f"one of {', '.join(BACKBONES)}", "Give one of those names")
    return found
