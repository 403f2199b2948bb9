"""Chains that a machine, or stock duplicity, could not decode: each set takes two open files meanwhile."""

from dataclasses import replace

import pytest

from tests.unit.test_ledger import record
from tklb.backup.encode import is_too_long
from tklb.model.snapshot import LedgerEntry, Volume, count_sets, describe_long_chain


def chain(sets: int, prefixes: tuple[str, ...] = ("",)) -> LedgerEntry:
    volumes = tuple(
        Volume(f"{prefix}duplicity-inc.20260101T000000Z.to.{number:06}.vol{volume}.difftar.gpg", 1, "0" * 64)
        for prefix in prefixes
        for number in range(sets)
        for volume in (1, 2, 10, 11)
    )
    return replace(record(1), volumes=volumes)


@pytest.mark.parametrize("prefixes", [("",), ("", "b-", "c-")])
def test_sets_are_counted_for_each_shard(prefixes: tuple[str, ...]) -> None:
    assert count_sets(chain(7, prefixes)) == 7


def test_a_chain_that_the_usual_limit_stops_is_reported_with_the_limit_that_suffices() -> None:
    assert describe_long_chain(None) == describe_long_chain(chain(480)) == ()
    (warning,) = describe_long_chain(chain(481))
    assert "481 sets" in warning
    assert "`ulimit -n 1443`" in warning


def test_a_new_chain_begins_before_the_hard_limit_of_this_machine() -> None:
    assert not is_too_long(None, 256)
    assert not is_too_long(chain(95), 256)
    assert is_too_long(chain(96), 256)
    assert not is_too_long(chain(480), -1)  # no limit
