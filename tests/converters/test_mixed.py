from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.converters import mixed
from pneumo_edge.errors import GateError


def _attempts(needed: int) -> tuple[list[int], Callable[[int], int | GateError]]:
    asked: list[int] = []

    def attempt(number: int) -> int | GateError:
        asked.append(number)
        return number if number >= needed else GateError(f"{number} fail", "more", "Go on")

    return asked, attempt


@given(st.integers(1, 300), st.data())
def test_the_fewest_operators_that_pass_are_found_with_few_files(total: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(1, total))
    asked, attempt = _attempts(needed)
    assert mixed.fewest(total, attempt) == needed
    assert len(asked) == len(set(asked)) <= 2 * total.bit_length()
    assert max(asked) <= min(total, 2 * needed)
    least = data.draw(st.integers(1, needed))
    assert mixed.fewest(total, _attempts(needed)[1], least) == needed


def test_where_no_number_passes_the_failure_with_all_of_them_is_given() -> None:
    _, attempt = _attempts(11)
    result = mixed.fewest(10, attempt)
    assert isinstance(result, GateError) and result.given == "10 fail"
