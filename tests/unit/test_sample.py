"""The rotating share: all volumes are seen in turn, also while some come and others go."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tklb.verify.sample import Turn, take_share

PERCENTS = st.one_of(st.integers(1, 100).map(Fraction), st.fractions(Fraction(1, 2), 100))
POPULATIONS = st.lists(st.sets(st.integers(0, 40)), min_size=1, max_size=60)


def names(numbers: set[int]) -> set[str]:
    return {f"vol{number}" for number in numbers}


@given(POPULATIONS, PERCENTS)
def test_what_stays_for_a_round_is_seen_in_it_whatever_comes_and_goes(days: list[set[int]], percent: Fraction) -> None:
    turn, shares = Turn(), []
    for day in days:
        share, turn = take_share(names(day), percent, turn)
        assert set(share) <= names(day)
        shares.append(set(share))
    rounds = math.ceil(100 / percent)
    for first in range(len(days) - rounds + 1):
        stayed = set[str].intersection(*(names(day) for day in days[first : first + rounds]))
        assert stayed <= set.union(*shares[first : first + rounds])


@given(st.sets(st.integers(0, 200)), PERCENTS, st.integers(1, 30))
def test_share_of_what_does_not_change_is_exactly_so_many_percent(
    all_of: set[int], percent: Fraction, runs: int
) -> None:
    turn = Turn()
    for _ in range(runs):
        share, turn = take_share(names(all_of), percent, turn)
        assert len(share) == math.ceil(len(all_of) * percent / 100)


def test_names_follow_each_other_as_they_are_sorted() -> None:
    first, turn = take_share("abcde", Fraction(40), Turn())
    second, turn = take_share("abcde", Fraction(40), turn)
    third, turn = take_share("abcde", Fraction(40), turn)
    assert (first, second, third) == (("a", "b"), ("c", "d"), ("a", "e"))


def test_memory_does_not_grow_with_what_went() -> None:
    _, turn = take_share("abc", Fraction(50), Turn())
    _, turn = take_share("c", Fraction(50), turn)
    assert set(turn.seen) == {"c"}
