from __future__ import annotations

import copy
import json
import math
import sys
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pneumo_edge._util import records
from pneumo_edge._util.records import RecordError, Within


class Rule(StrEnum):
    ONE = "the first"
    OTHER = "the second"


@dataclass(frozen=True)
class Inner:
    share: float
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.share < 0:
            raise ValueError(f"share is {self.share}, less than 0")


@dataclass(frozen=True)
class Record:
    """Every kind of field there is."""

    name: str
    count: int
    yes: bool
    inner: Inner
    items: tuple[Inner, ...]
    table: dict[str, dict[str, int]]
    maybe: Inner | None = None
    version: Literal[1, 2] = 1
    rule: Rule = Rule.ONE
    defaults: tuple[str, ...] = field(default_factory=tuple)


# Lone surrogates are what Python makes of a file name that is not UTF-8.
_text = st.text(st.characters(), max_size=10)
_inner = st.builds(Inner, st.floats(0, allow_infinity=False), st.sampled_from(["a", "b"]))
_records = st.builds(
    Record,
    name=_text,
    count=st.integers(-(2**63), 2**63 - 1),
    yes=st.booleans(),
    inner=_inner,
    items=st.lists(_inner, max_size=3).map(tuple),
    table=st.dictionaries(_text, st.dictionaries(_text, st.integers(-(2**63), 2**63 - 1), max_size=3), max_size=3),
    maybe=st.none() | _inner,
    version=st.sampled_from([1, 2]),
    rule=st.sampled_from(Rule),
    defaults=st.lists(_text, max_size=3).map(tuple),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_EXAMPLE = Record("n", 3, True, Inner(0.5), (Inner(1), Inner(2)), {"x": {"y": 1}})


def _document() -> dict[str, Any]:
    return copy.deepcopy(json.loads(records.dumps(_EXAMPLE)))


@given(_records, st.sampled_from([None, 2]))
def test_any_record_survives(record: Record, indent: int | None) -> None:
    text = records.dumps(record, indent=indent)
    assert records.loads(Record, text) == record
    # It can be written on any machine, whatever its encoding.
    assert records.loads(Record, text.encode("ascii")) == record


def test_the_text_is_json_with_a_final_newline() -> None:
    text = records.dumps(_EXAMPLE)
    assert text.endswith("}\n")
    assert json.loads(text) == json.loads(json.dumps(asdict(_EXAMPLE)))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_json_cannot_say_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        records.dumps(Inner(number))


@pytest.mark.parametrize("name", ["name", "count", "yes", "inner", "items", "table"])
def test_a_missing_field_is_named(name: str) -> None:
    document = _document()
    del document[name]
    with pytest.raises(RecordError, match=f"the field {name} is missing"):
        records.loads(Record, json.dumps(document))


def test_a_missing_field_deep_inside_is_named_with_its_place() -> None:
    document = _document()
    del document["items"][1]["share"]
    with pytest.raises(RecordError, match=r"the field items\[1\]\.share is missing"):
        records.loads(Record, json.dumps(document))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["name"], 3, "name is 3, not str"),
        (["name"], None, "name is null, not str"),
        (["count"], "3", 'count is "3", not int'),
        (["count"], 3.0, "count is 3.0, not int"),
        (["count"], True, "count is true, not int"),
        (["yes"], 1, "yes is 1, not bool"),
        (["yes"], "true", 'yes is "true", not bool'),
        (["inner"], [], r"inner is \[\], not an object"),
        (["inner"], None, "inner is null, not an object"),
        (["inner", "share"], "0.5", 'inner.share is "0.5", not float'),
        (["inner", "share"], True, "inner.share is true, not float"),
        (["inner", "share"], math.nan, "inner.share is NaN, not a finite number"),
        (["inner", "share"], -math.inf, "inner.share is -Infinity, not a finite number"),
        (["inner", "share"], 10**400, "inner.share is 10+, not a finite number"),
        (["inner", "share"], -1, "inner: share is -1.0, less than 0"),
        (["inner", "kind"], "c", "inner.kind is \"c\", not 'a' or 'b'"),
        (["inner", "kind"], ["a"], r'inner.kind is \["a"\], not'),
        (["version"], 3, "version is 3, not 1 or 2"),
        (["version"], True, "version is true, not 1 or 2"),
        (["rule"], "the third", "rule is \"the third\", not 'the first' or 'the second'"),
        (["rule"], ["the first"], r"rule is \["),
        (["items"], {}, "items is {}, not a list"),
        (["items", 1], 7, r"items\[1\] is 7, not an object"),
        (["table"], [], r"table is \[\], not an object"),
        (["table", "x", "y"], "1", 'table.x.y is "1", not int'),
        (["maybe"], 5, "maybe is 5, not an object"),
    ],
)
def test_a_wrong_value_is_shown_with_its_field(path: list[str | int], value: object, message: str) -> None:
    document = _document()
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(RecordError, match=message):
        records.loads(Record, json.dumps(document))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '"text"', "nonsense", b"\xff\xfe\x00", b"\x00" * 9, "[" * 100_000, '{"count":' * 50_000],
    ids=range(10),
)
def test_what_is_no_such_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(RecordError):
        records.loads(Record, text)


def test_a_long_value_is_not_shown_in_full() -> None:
    document = _document() | {"count": "x" * 10_000}
    with pytest.raises(RecordError) as caught:
        records.loads(Record, json.dumps(document))
    assert len(str(caught.value)) < 200


def test_fields_of_a_later_version_are_ignored() -> None:
    document = _document() | {"added_later": [1, 2]}
    document["inner"]["also_later"] = None
    assert records.loads(Record, json.dumps(document)) == _EXAMPLE


@given(st.text() | st.binary() | _json.map(json.dumps))
def test_nothing_but_a_record_error_comes_of_any_input(text: str | bytes) -> None:
    with pytest.raises(RecordError):
        records.loads(Record, text)


@given(st.data(), _json)
@example(data=None, value=10**309)
def test_nothing_but_a_record_error_comes_of_any_damage(data: st.DataObject | None, value: object) -> None:
    document = _document()
    places: list[tuple[Any, Any]] = []

    def collect(container: Any) -> None:
        for key in container if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], dict | list):
                collect(container[key])

    collect(document)
    container, key = data.draw(st.sampled_from(places)) if data else (document["inner"], "share")
    container[key] = value
    try:
        read = records.loads(Record, json.dumps(document))
    except RecordError:
        return
    assert records.loads(Record, records.dumps(read)) == read


def test_a_value_nested_to_the_limit_is_refused_like_any_other() -> None:
    # Just below what json cannot read there is what it reads and cannot write.
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit() + 10):
        with pytest.raises(RecordError):
            records.loads(Record, '{"name": ' + "[" * depth + "]" * depth + "}")


@given(_records)
def test_a_document_for_others_is_whole_unicode(record: Record) -> None:
    """Lone surrogates are what strict parsers refuse; all else is as it was."""
    text = records.document(record)
    found = json.loads(text)
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    strings = json.dumps(asdict(record), ensure_ascii=False)
    if not any("\ud800" <= character <= "\udfff" for character in strings):
        assert text == records.dumps(record)
    assert found["name"] == records.encodable(record.name)
    assert len(found["table"]) == len(record.table)


def test_names_that_are_written_alike_both_stay() -> None:
    inner = Inner(0.5)
    record = Record("", 1, True, inner, (), {"caf\udce9": {"a": 1}, "caf\\udce9": {"a": 2}})
    assert sorted(table["a"] for table in json.loads(records.document(record))["table"].values()) == [1, 2]


@dataclass(frozen=True)
class Bounded:
    share: records.Share
    count: records.Count = 0
    above: Annotated[float, Within(above=0, high=5)] = 1.0
    items: tuple[records.AtLeastOne, ...] = ()
    maybe: records.Share | None = None
    title: records.Text = ""


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('{"share": 1.5}', "share is 1.5, not within 0 to 1"),
        ('{"share": NaN}', "share is NaN, not a finite number"),
        ('{"share": 1e400}', "share is Infinity, not a finite number"),
        ('{"share": 0, "count": -1}', "count is -1, not at least 0"),
        ('{"share": 0, "count": 9223372036854775808}', "count is 9223372036854775808, not a whole number"),
        ('{"share": 0, "above": 0}', "above is 0, not at most 5 and above 0|above is 0, not above 0 and at most 5"),
        ('{"share": 0, "items": [1, 0]}', r"items\[1\] is 0, not at least 1"),
        ('{"share": 0, "maybe": 2}', "maybe is 2, not within 0 to 1"),
        ('{"share": 0, "title": "\\ud800"}', "title is .*, not text of whole Unicode characters"),
        ('{"share": 0, "share": 1}', "the field share occurs twice"),
        ("[" * 10_000, "nested too deep"),
        ('{"share": ' + "9" * 5_000 + "}", "not valid JSON"),
    ],
)
def test_what_a_field_may_hold_is_stated_where_it_is(text: str, refused: str) -> None:
    with pytest.raises(RecordError, match=refused) as caught:
        records.loads(Bounded, text)
    assert len(str(caught.value)) < 500


def test_bounds_are_left_out_of_the_schema() -> None:
    assert records.schema(Bounded)["properties"]["items"] == {"type": "array", "items": {"type": "integer"}}
