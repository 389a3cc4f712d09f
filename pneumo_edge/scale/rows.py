"""The row that each image has in a scored data set: its columns, their types, and the file of one shard.

A shard is one Parquet file. Its key-value metadata holds :data:`SHARD_KEY`, a :class:`ShardCounts` as JSON, and
:data:`PREDICTOR_KEY`, a :class:`pneumo_edge.runtime.identity.PredictorIdentity` as JSON, whose ``class_names`` name the
elements of ``probabilities``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pneumo_edge._util import extras, records
from pneumo_edge.runtime.classifier import Prediction
from pneumo_edge.runtime.identity import PredictorIdentity

#: Keys of the metadata of a shard's file.
SHARD_KEY, PREDICTOR_KEY = "pneumo_edge.shard", "pneumo_edge.predictor"
#: Every column with its Arrow type, in the order of the file. Only ``name``, ``shard`` and ``folder`` are never null.
COLUMNS = {
    # Within the source: the path relative to it; that of a member of a tar is PATH.tar/MEMBER.
    "name": "string",
    # The number of the shard in the plan, from 0.
    "shard": "int32",
    # ``name`` up to its last slash; "" at the top of the source.
    "folder": "string",
    # The day that a column of the source gives (YYYY-MM-DD), or null.
    "day": "string",
    # The class, as `predict` gives it. Null where the image could not be classified, with all columns up to ``error``.
    "label": "string",
    # The probability of every class, in the order of the ModelSpec; the numbers of `predict` bit for bit.
    "probabilities": "list<double>",
    # Null where the model file does not say, as are the next two.
    "uncertain": "bool",
    "out_of_distribution": "bool",
    # Distance from the training images, at least 0; the input check's limit applies to it.
    "distance": "double",
    # Wall time in milliseconds: getting the bytes; decoding and resizing; running the network.
    "read_ms": "double",
    "decode_ms": "double",
    "inference_ms": "double",
    # Why the image could not be classified, in one line, and the class of the error.
    "error": "string",
    "error_kind": "string",
}
#: Columns that differ between two runs of the same work; the hash of the rows leaves them out.
TIMES = ("read_ms", "decode_ms", "inference_ms")

#: A row, by column.
Row = dict[str, Any]


@dataclass(frozen=True)
class ShardCounts:
    """What a shard's file holds, in numbers.

    Attributes:
        shard: Its number.
        rows: Its images.
        labels: Images of each label.
        uncertain: Images with an uncertain answer.
        out_of_distribution: Images unlike the training images.
        errors: Images that could not be classified, by the class of the error.
        rows_sha256: Hash of all columns but :data:`TIMES`; two runs of the same work agree on it.
        seconds: Wall time of the worker.
    """

    shard: int
    rows: int
    labels: dict[str, int]
    uncertain: int
    out_of_distribution: int
    errors: dict[str, int]
    rows_sha256: str
    seconds: float


def classified(name: str, shard: int, day: str | None, read_ms: float, prediction: Prediction) -> Row:
    """The row of an image with its prediction."""
    timings = prediction.timings
    return {
        **_begin(name, shard, day),
        "label": prediction.label,
        "probabilities": list(prediction.probabilities.values()),
        "uncertain": prediction.uncertain,
        "out_of_distribution": prediction.out_of_distribution,
        "distance": prediction.distance,
        "read_ms": read_ms,
        "decode_ms": timings.decode + timings.resize,
        "inference_ms": timings.inference,
    }


def failed(name: str, shard: int, day: str | None, kind: str, reason: str) -> Row:
    """The row of an image that could not be classified.

    Args:
        name: As :data:`COLUMNS` describes.
        shard: As above.
        day: As above.
        kind: The class of the error.
        reason: Its message, one line.
    """
    return {**_begin(name, shard, day), "error": records.encodable(reason), "error_kind": kind}


def _begin(name: str, shard: int, day: str | None) -> Row:
    row: Row = dict.fromkeys(COLUMNS)
    name = records.encodable(name)
    return {**row, "name": name, "shard": shard, "folder": name.rpartition("/")[0], "day": day}


def count(shard: int, found: Iterable[Mapping[str, Any]], seconds: float) -> ShardCounts:
    """Count the rows of a shard."""
    labels: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    uncertain = out_of_distribution = number = 0
    digest = hashlib.sha256()
    for row in found:
        number += 1
        if row["error"] is None:
            labels[row["label"]] += 1
        else:
            errors[row["error_kind"]] += 1
        uncertain += bool(row["uncertain"])
        out_of_distribution += bool(row["out_of_distribution"])
        digest.update(json.dumps([row[name] for name in COLUMNS if name not in TIMES]).encode() + b"\n")
    counted = (dict(sorted(labels.items())), uncertain, out_of_distribution, dict(sorted(errors.items())))
    return ShardCounts(shard, number, *counted, digest.hexdigest(), seconds)


def schema() -> Any:
    """The Arrow schema of :data:`COLUMNS`.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    arrow = extras.need("pyarrow", "parquet")
    types = {
        "string": arrow.string(),
        "int32": arrow.int32(),
        "list<double>": arrow.list_(arrow.float64()),
        "bool": arrow.bool_(),
        "double": arrow.float64(),
    }
    return arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])


def to_parquet(found: list[Row], counts: ShardCounts, predictor: PredictorIdentity) -> bytes:
    """The bytes of a shard's file."""
    arrow = extras.need("pyarrow", "parquet")
    parquet = extras.need("pyarrow.parquet", "parquet")
    metadata = {SHARD_KEY: records.dumps(counts, indent=None), PREDICTOR_KEY: records.dumps(predictor, indent=None)}
    table = arrow.Table.from_pylist(found, schema=schema().with_metadata(metadata))
    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def read_counts(stream: Any, *, recount: bool = False) -> ShardCounts:
    """Read the counts of a shard's file.

    Args:
        stream: A path, or an open binary file that can be rewound.
        recount: Also read the rows, and compare them with the counts; else only the footer is read.

    Raises:
        records.RecordError: The file is damaged, was changed, or is of another kind.
        OSError: It cannot be read.
    """
    return _read(stream, recount=recount)[0]


def read(stream: Any) -> tuple[ShardCounts, list[Row]]:
    """Read a shard's file: its counts and its rows, compared with each other.

    Raises:
        records.RecordError: As :func:`read_counts`.
        OSError: It cannot be read.
    """
    return _read(stream, recount=True)


def _read(stream: Any, *, recount: bool) -> tuple[ShardCounts, list[Row]]:
    arrow, parquet = extras.need("pyarrow", "parquet"), extras.need("pyarrow.parquet", "parquet")
    try:
        with parquet.ParquetFile(stream) as file:
            written = file.metadata
            table = file.read(use_threads=False) if recount else None
    except (arrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        # Arrow raises an OSError without a number for content that it cannot read.
        raise records.RecordError("it is no whole Parquet file") from error
    metadata = written.metadata or {}
    if SHARD_KEY.encode() not in metadata:
        raise records.RecordError(f"it lacks the metadata {SHARD_KEY}")
    counts = records.loads(ShardCounts, metadata[SHARD_KEY.encode()])
    if written.num_rows != counts.rows:
        raise records.RecordError(f"it has {written.num_rows:,} rows instead of {counts.rows:,}")
    if table is None:
        return counts, []
    found = table.to_pylist() if set(table.column_names) == set(COLUMNS) else []
    if count(counts.shard, found, counts.seconds) != counts:
        raise records.RecordError("its rows were changed after it was written")
    return counts, found
