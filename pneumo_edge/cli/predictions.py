"""What becomes of verdicts: text on standard output, or a file that is whole or not there.

A verdict is plain data: what ``Prediction.to_dict`` gives, or ``source`` and ``error``. Its ``source`` is text that
strict parsers take (:func:`pneumo_edge._util.records.encodable`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pneumo_edge._util import extras, files
from pneumo_edge.errors import printable
from pneumo_edge.runtime.classifier import REMARKS as REMARKS
from pneumo_edge.runtime.identity import PredictorIdentity

ImageVerdict = Mapping[str, Any]

#: Rows that a Parquet file holds in memory before it writes them.
_ROWS_AT_ONCE = 1000
_REMARK_WIDTH = max(map(len, REMARKS))


def table(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """Lines for a person, without the images that could not be judged."""
    width, positive = max(map(len, predictor.class_names)), predictor.positive_class
    remarks = f"{'remark':<{_REMARK_WIDTH}}  " if predictor.remarks else ""
    yield f"{'label':<{width}}  p({positive})  threshold  {'ms':>6}  {remarks}image\n"
    for verdict in verdicts:
        if "error" not in verdict:
            probability = f"{verdict['probabilities'][positive]:>{len(positive) + 3}.4f}"
            # The last is the gravest: how sure a model is of what it does not know says nothing.
            remark = ["-", *remarks_on(verdict)][-1]
            remarks = f"{remark:<{_REMARK_WIDTH}}  " if predictor.remarks else ""
            yield (
                f"{verdict['label']:<{width}}  {probability}  {verdict['threshold']:>9.4f}  "
                f"{verdict['total_ms']:>6.1f}  {remarks}{printable(verdict['source'])}\n"
            )


def remarks_on(verdict: ImageVerdict) -> list[str]:
    """Why the label of a verdict is not to be taken as it stands, those of :data:`REMARKS` that apply."""
    return [name for name in REMARKS if verdict.get(name)]


def as_csv(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """CSV with a header; of an image that could not be judged, its name and the reason.

    No name becomes a formula: see :mod:`pneumo_edge._util.tabular`.
    """
    from pneumo_edge._util import tabular

    yield tabular.row(columns(predictor))
    for verdict in verdicts:
        yield tabular.row(map(_csv_cell, cells(verdict, predictor)))


def as_json(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """One JSON document, in one piece."""
    document = {"model": predictor.model, "engine": predictor.engine, "images": list(verdicts)}
    yield json.dumps(document, indent=2) + "\n"


def as_json_lines(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """A JSON document on each line, one for each image."""
    yield from map(_json_line, verdicts)


#: Endings of a file of verdicts, and what writes its text.
TEXTS: dict[str, Callable[[Iterable[ImageVerdict], PredictorIdentity], Iterator[str]]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".jsonl": as_json_lines,
}
PARQUET = ".parquet"


def write(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity, path: Path) -> None:
    """Write a file in the format that its ending says, :data:`PARQUET` or one of :data:`TEXTS`.

    Raises:
        MissingExtraError: It is Parquet, and pyarrow is not installed.
        OSError: It cannot be written; what was there is then as it was.
    """
    with files.atomic(path) as temporary:
        if path.suffix == PARQUET:
            _write_parquet(verdicts, predictor, temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(TEXTS[path.suffix](verdicts, predictor))


def columns(predictor: PredictorIdentity) -> list[str]:
    """Names of the columns of CSV and Parquet."""
    return ["image", "label", *predictor.class_names, "threshold", "total_ms", "error", *REMARKS]


def cells(verdict: ImageVerdict, predictor: PredictorIdentity) -> list[Any]:
    """A row under :func:`columns`; None where there is nothing to say."""
    shares = verdict.get("probabilities", {})
    label, *others = (verdict.get(name) for name in ("label", "threshold", "total_ms", "error", *REMARKS))
    return [verdict["source"], label, *map(shares.get, predictor.class_names), *others]


def _json_line(document: Mapping[str, Any]) -> str:
    return json.dumps(document) + "\n"


def _csv_cell(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else cell


def _write_parquet(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity, path: Path) -> None:
    pyarrow = extras.need("pyarrow", "parquet")
    parquet = extras.need("pyarrow.parquet", "parquet")
    types = dict.fromkeys(("image", "label", "error"), pyarrow.string()) | dict.fromkeys(REMARKS, pyarrow.bool_())
    names = columns(predictor)
    schema = pyarrow.schema(
        [(name, types.get(name, pyarrow.float64())) for name in names],
        metadata={
            "model": predictor.model,
            "sha256": predictor.sha256,
            "engine": f"{predictor.engine} {predictor.version}",
        },
    )
    rows = (cells(verdict, predictor) for verdict in verdicts)
    # Not by its path, which Arrow takes in UTF-8 alone.
    with path.open("wb") as stream, parquet.ParquetWriter(stream, schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            by_column = dict(zip(names, zip(*batch, strict=True), strict=True))
            writer.write_table(pyarrow.table(by_column, schema=schema))
