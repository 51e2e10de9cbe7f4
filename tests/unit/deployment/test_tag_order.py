"""Which of two wishes for production is the newer one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.deployment.production.tag_order import Order, compare_with_production

CASES = [
    ("pushed later", (20, 5, 10, 0), Order.NEWER),
    ("pushed earlier", (10, 30, 20, 0), Order.OLDER),
    ("pushed later, made earlier", (20, 1, 10, 9), Order.NEWER),
    ("its push is not known, made later", (0, 20, 10, 0), Order.NEWER),
    ("its push is not known, made earlier", (0, 5, 10, 0), Order.OLDER),
    ("its push is not known, made at that very time", (0, 10, 10, 0), Order.UNKNOWN),
    ("nothing is known of it", (0, 0, 10, 0), Order.UNKNOWN),
    ("a person decided after its push", (100, 90, 100.4, 0), Order.OLDER),
    ("a person decided before its push", (101, 90, 100.4, 0), Order.NEWER),
    ("when production's was decided is not known", (20, 20, 0, 0), Order.UNKNOWN),
    ("pushed in the same second, made later", (10, 8, 10, 7), Order.NEWER),
    ("pushed in the same second, made earlier", (10, 6, 10, 7), Order.OLDER),
    ("pushed in the same second, made at the same time", (10, 7, 10, 7), Order.UNKNOWN),
    ("pushed in the same second, the other's date is not known", (10, 7, 10, 0), Order.UNKNOWN),
]
TIMES = st.integers(0, 3)


@pytest.mark.parametrize(("times", "found"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_order(times: tuple[float, float, float, float], found: Order) -> None:
    assert compare_with_production(*times) is found


@given(TIMES, TIMES, TIMES, TIMES)
def test_of_two_tags_not_both_are_newer(pushed_at: int, made_at: int, other: int, other_made_at: int) -> None:
    one = compare_with_production(pushed_at, made_at, other or other_made_at, other_made_at)
    opposite = {Order.NEWER: Order.OLDER, Order.OLDER: Order.NEWER, Order.UNKNOWN: Order.UNKNOWN}
    assert compare_with_production(other, other_made_at, pushed_at or made_at, made_at) is opposite[one]
