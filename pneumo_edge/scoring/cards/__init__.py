"""Writes model cards after Mitchell et al., Model Cards for Model Reporting (FAT* 2019), and their index, as Markdown.

Every number comes from a file's ModelSpec, from its bytes or from ``metrics.json``. A model of the X-rays of Kermany et
al. (2018) gets the text about their patients, hospital and licences; another model gets what is known of its data.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo_edge import backbones
from pneumo_edge._util import extras, files, markdown
from pneumo_edge.backbones import Pretrained, backbone_title
from pneumo_edge.errors import ModelFileError, ResultsError, printable
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN
from pneumo_edge.runs import COUNTERFACTUAL
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.scoring.cards import tables
from pneumo_edge.scoring.summary import (
    Metrics,
    ModelComparison,
    ModelMetrics,
    SeedComparison,
    SeedGroup,
    as_accurate,
    shortage,
    where,
)
from pneumo_edge.spec import RANDOM_WEIGHTS, ModelSpec

if TYPE_CHECKING:
    from jinja2 import Environment


#: What data were used for, of a model file.
_DATA = {
    "trained on": "{} was trained on",
    "threshold chosen on": "the threshold of {} was chosen on",
    "measured on": "{} was measured on",
}


@dataclass(frozen=True)
class Card:
    """The contents of the card of a model file.

    ``seeds`` is None where the evaluation has no other seeds of its recipe.
    """

    path: Path
    sha256: str
    size_bytes: int
    spec: ModelSpec
    measured: ModelMetrics
    seeds: SeedGroup | None
    evaluation: Metrics


def collect(path: Path, evaluation: Metrics) -> Card:
    """Collect the contents of a card.

    Args:
        path: The model file.
        evaluation: Metrics of the test split that include this file; where it was scored on several engines, the first
            one is used.

    Raises:
        ModelFileError: The file cannot be read, has no ModelSpec, or is of phantom images.
        ResultsError: The metrics do not include the file, or are not of the test split of real images.
    """
    spec = read_spec(path)
    if not spec.data.real:
        raise ModelFileError(
            f"{_DATA[spec.data_use].format(path)} {spec.data.name}",
            "a model of real images",
            "Adopt or export it again with such images"
            if spec.is_trained_elsewhere
            else "Train on such, and export again",
        )
    data = evaluation.data
    if data.split != "test" or data.external or not data.real:
        raise ResultsError(
            f"the metrics are of {where(data)}",
            "metrics of the test split of real images",
            "Score the final model with: pneumo-edge evaluate --split test",
        )
    sha256 = files.sha256(path)
    measured = next((each for each in evaluation.models if each.model.sha256 == sha256), None)
    if measured is None:
        raise ResultsError(
            f"the metrics do not include {path} (SHA-256 {sha256[:12]})",
            "metrics of this file",
            "Score it with: pneumo-edge evaluate --split test",
        )
    return Card(path, sha256, path.stat().st_size, spec, measured, _seeds(measured, evaluation), evaluation)


def _seeds(measured: ModelMetrics, evaluation: Metrics) -> SeedGroup | None:
    model = measured.model
    key = model.backbone, model.recipe, model.format, model.engine
    groups = (each for each in evaluation.over_seeds if (each.backbone, each.recipe, each.format, each.engine) == key)
    return next(groups, None)


def render(card: Card) -> str:
    """Render a card.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    template = _environment().get_template("card.md.jinja")
    is_kermany = _is_kermany(card)
    validation = card.spec.training.validation
    return template.render(
        is_kermany=is_kermany,
        is_elsewhere=card.spec.is_trained_elsewhere,
        subject="the lungs" if is_kermany else "what the images show",
        folder="chest_xray" if is_kermany else "DATA",
        licence=card.spec.data.licence.partition(";")[0],
        made_from=_made_from(card.spec),
        card=card,
        spec=card.spec,
        data=card.evaluation.data,
        metrics=card.measured.metrics,
        validation={name: value for name, value in validation.items() if not name.startswith(COUNTERFACTUAL)},
        counterfactual={
            name.removeprefix(COUNTERFACTUAL): value
            for name, value in validation.items()
            if name.startswith(COUNTERFACTUAL)
        },
        pretrained=_pretrained(card.spec),
        few=shortage(card.evaluation.data),
        tables={
            "training": tables.training(card.spec),
            "metrics": tables.metrics(card.measured, card.seeds),
            "confusion": tables.confusion(card.measured, card.evaluation.data),
            "shortcuts": tables.shortcuts(card.evaluation),
        },
    )


def _is_kermany(card: Card) -> bool:
    """Whether a model was trained on the X-rays of Kermany et al. (2018): their file names tell bacteria and virus."""
    spec = card.spec
    if spec.is_trained_elsewhere or not spec.task.is_of_x_rays:
        return False
    kinds = {name.lower() for name in (*card.evaluation.data.kinds, *spec.class_names)}
    return not kinds.isdisjoint({"bacteria", "virus"}) or "PneumoniaMNIST" in spec.data.name


def _made_from(spec: ModelSpec) -> str:
    """How the file was made: by a verb other than ``train``, or what ``train`` was given."""
    if spec.is_trained_elsewhere:
        return "adopted" if spec.is_adopted else "exported"
    if backbones.find(spec.backbone) is None and spec.training.initial_weights.startswith("from "):
        return "--init MODEL --input-range RANGE"
    return f"--backbone {spec.backbone}"


def _pretrained(spec: ModelSpec) -> Pretrained | None:
    """The ImageNet weights of a network, where it has a row in the table and did not start from random numbers."""
    row = backbones.find(spec.backbone)
    return row.pretrained if row and spec.training.initial_weights != RANDOM_WEIGHTS else None


def render_index(cards: Sequence[tuple[Card, Path]], index: Path) -> str:
    """Render the page that links to the cards of the bundled models.

    Args:
        cards: The cards, all of one evaluation, each with its file.
        index: The file of the page; links are relative to it.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    evaluation = cards[0][0].evaluation
    hashes = {card.sha256 for card, _ in cards}
    links = [Path(os.path.relpath(target, index.parent)).as_posix() for _, target in cards]
    template = _environment().get_template("index.md.jinja")
    return template.render(
        evaluation=evaluation,
        data=evaluation.data,
        other=cards[-1][0].spec.backbone,
        cards=tables.index([(card.measured, link) for (card, _), link in zip(cards, links, strict=True)]),
        shortcuts=tables.shortcuts(evaluation),
        margin=ACCURACY_MARGIN,
        comparisons=[
            (each, tables.comparison(each, over_seeds), over_seeds)
            for each in evaluation.comparisons
            if {each.first.sha256, each.second.sha256} <= hashes
            for over_seeds in (_over_seeds(each, evaluation),)
        ],
    )


def _over_seeds(comparison: ModelComparison, evaluation: Metrics) -> SeedComparison | None:
    first, second = comparison.first, comparison.second
    key = first.backbone, first.recipe, second.backbone, second.recipe, comparison.format, comparison.engine
    for each in evaluation.comparisons_over_seeds:
        sides = each.first_backbone, each.first_recipe, each.second_backbone, each.second_recipe
        if (*sides, each.format, each.engine) == key:
            return each
    return None


def _environment() -> Environment:
    extras.need("jinja2", "report")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pneumo_edge.scoring.cards", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "as_accurate": as_accurate,
        "backbone": lambda name: printable(backbone_title(name)),
        "code": lambda name: markdown.code(printable(name)),
        "typed": lambda name: shlex.quote(printable(name)),
        "listed": _listed,
        "number": tables.number,
        "text": lambda name: markdown.escape(printable(name)),
    }
    return environment


def _listed(values: Mapping[str, int | float | str]) -> str:
    """Names and values on one line: ``AUC 0.990, log loss 0.050``."""
    titles = (name.replace("_", " ").replace("auc", "AUC") for name in values)
    shown = (value if isinstance(value, str) else tables.number(value) for value in values.values())
    return ", ".join(f"{title} {value}" for title, value in zip(titles, shown, strict=True))
