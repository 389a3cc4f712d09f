"""JSON documents that were cut, edited, or are of another's making: what a reader must take or refuse in one line."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: Mutations of each document; ``make mutate-documents`` takes 2,000.
EXAMPLES = int(os.environ.get("PNEUMO_EDGE_MUTATIONS", "0"))

#: Stands in a document until it is text, and then gives way to JSON that Python would not write.
_RAW = {
    "@huge@": "1" + "0" * 400,
    "@-huge@": "-1" + "0" * 400,
    "@overflow@": "1e400",
    "@nan@": "NaN",
    "@infinity@": "Infinity",
    "@-infinity@": "-Infinity",
    "@deep@": "[" * 10_000 + "]" * 10_000,
    "@deep object@": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "@digits@": "9" * 5_000,
}
_TWICE = "@twice@"
_ODD: list[Any] = [
    *_RAW, None, True, False, -1, 0, 1, 2, 3, 97, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**15,
    -1.0, -0.0, 0.0, 0.5, 1.0, 1.5, 1e-9, 1e9, 1e308, -1e308, 5e-324,
    "", "a", "NORMAL", "\x00", "\x1b[31m", "a\nb\r\tc", "\ud800", "caf\udce9", "=1+1", "$x^$", "a|b`c`<b>&amp;",
    "x" * 3_000, "2026-01-02T03:04:05+00:00", "0001-01-01T00:00:00+23:00", "9999-12-31", "fp32", "litert", "test",
    [], {}, [[]], [1], ["a"], [0.5, 0.5], {"a": 1}, {"": None}, [None], [{}],
]  # fmt: skip


def several(few: int) -> settings:
    """How many mutations a test takes: ``few``, or as many as were asked for."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=EXAMPLES or few, deadline=None, suppress_health_check=checks, derandomize=not EXAMPLES)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> bytes:
    """The text of a document after a few changes, of its values or of its bytes."""
    if draw(st.integers(0, 7)) == 0:
        return _damage(draw, json.dumps(document).encode())
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        document = _change(draw, document)
    text = json.dumps(document)
    for mark, raw in _RAW.items():
        text = text.replace(json.dumps(mark), raw)
    return text.replace(_TWICE, "").encode()


def _damage(draw: st.DrawFn, text: bytes) -> bytes:
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 50)))
    kind = draw(st.sampled_from(["cut", "remove", "insert", "encoding"]))
    if kind == "cut":
        return text[:start]
    if kind == "remove":
        return text[:start] + text[end:]
    if kind == "insert":
        return text[:start] + draw(st.binary(max_size=5)) + text[start:]
    return text.decode().encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])))


def _change(draw: st.DrawFn, document: Any) -> Any:
    """Change one value somewhere inside, as likely near the root as far from it."""
    if not isinstance(document, (dict, list)) or not document or draw(st.integers(0, 7)) == 0:
        return _odd(draw)
    keys: list[Any] = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 2)):
        document[key] = _change(draw, document[key])
        return document
    kind = draw(st.sampled_from(["replace", "remove", "exchange", "again", "add", "empty"]))
    if kind == "replace":
        document[key] = _odd(draw)
    elif kind == "remove":
        del document[key]
    elif kind == "exchange":
        other = draw(st.sampled_from(keys))
        document[key], document[other] = document[other], document[key]
    elif kind == "again" and isinstance(document, dict):
        document[f"{key}{_TWICE}"] = document[key]
    elif kind == "again" and isinstance(document, list):
        document.append(copy.deepcopy(document[key]))
    elif kind == "add" and isinstance(document, dict):
        document[draw(st.sampled_from(["", "a", "\ud800", "\x00", "x" * 300]))] = _odd(draw)
    elif kind == "add" and isinstance(document, list):
        document.insert(key, _odd(draw))
    else:
        document[key] = type(document[key])() if document[key] is not None else []
    return document


def _odd(draw: st.DrawFn) -> Any:
    return copy.deepcopy(draw(st.sampled_from(_ODD)))
