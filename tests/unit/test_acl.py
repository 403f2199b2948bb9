"""POSIX ACLs keep their meaning when the ids in them move."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.diff.attributes.acl import remap_acl

OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 2**32 - 1
Entry = tuple[int, int, int]


def acl(*entries: Entry) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def whole(users: list[tuple[int, int]], groups: list[tuple[int, int]]) -> bytes:
    named = [(USER, rights, uid) for uid, rights in users], [(GROUP, rights, gid) for gid, rights in groups]
    return acl((OWNER, 7, NO_ID), *named[0], (GROUP_OWNER, 5, NO_ID), *named[1], (MASK, 7, NO_ID), (OTHER, 0, NO_ID))


def test_users_and_groups_move_by_their_own_map_and_stay_in_order() -> None:
    value = whole([(104, 6), (105, 4), (1000, 1)], [(104, 2), (200, 4)])
    moved = whole([(104, 4), (105, 6), (1000, 1)], [(200, 4), (999, 2)])
    assert remap_acl(value, {104: 105, 105: 104}, {104: 999}) == moved


def test_two_ids_that_become_one_have_the_rights_of_both() -> None:
    assert remap_acl(whole([(1, 4), (2, 2)], []), {1: 7, 2: 7}, {}) == whole([(7, 6)], [])


def test_minimal_and_empty_acls_stay() -> None:
    minimal = acl((OWNER, 6, NO_ID), (GROUP_OWNER, 4, NO_ID), (OTHER, 4, NO_ID))
    assert remap_acl(minimal, {0: 1}, {0: 1}) == minimal
    assert remap_acl(acl(), {}, {}) == acl()


def test_what_stands_as_id_of_an_unnamed_entry_is_no_id() -> None:
    odd = acl((OWNER, 6, 0), (GROUP_OWNER, 4, 0), (OTHER, 4, 0))
    assert remap_acl(odd, {0: 5}, {0: 5}) == acl((OWNER, 6, NO_ID), (GROUP_OWNER, 4, NO_ID), (OTHER, 4, NO_ID))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\2\0\0",
        struct.pack("<I", 1),
        whole([], [])[:-1],
        acl((OWNER, 6, NO_ID), (GROUP_OWNER, 4, NO_ID)),
        acl((OWNER, 6, NO_ID), (OTHER, 4, NO_ID), (GROUP_OWNER, 4, NO_ID)),
        acl((OWNER, 6, NO_ID), (USER, 4, 1), (GROUP_OWNER, 4, NO_ID), (OTHER, 4, NO_ID)),
        acl((OWNER, 6, NO_ID), (OWNER, 6, NO_ID), (GROUP_OWNER, 4, NO_ID), (OTHER, 4, NO_ID)),
        acl((OWNER, 6, NO_ID), (GROUP_OWNER, 4, NO_ID), (MASK, 4, NO_ID), (MASK, 4, NO_ID), (OTHER, 4, NO_ID)),
        acl((OWNER, 8, NO_ID), (GROUP_OWNER, 4, NO_ID), (OTHER, 4, NO_ID)),
        acl((OWNER, 7, NO_ID), (GROUP_OWNER, 4, NO_ID), (OTHER, 4, NO_ID), (0x40, 4, NO_ID)),
        whole([(NO_ID, 4)], []),
    ],
)
def test_what_is_no_acl_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="ACL"):
        remap_acl(value, {}, {})


IDS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 7)), max_size=6, unique_by=lambda entry: entry[0])


@given(IDS, IDS, st.permutations(range(41)))
def test_a_one_to_one_map_can_be_undone(
    users: list[tuple[int, int]], groups: list[tuple[int, int]], goes: list[int]
) -> None:
    there = dict(enumerate(goes))
    back = {goes: number for number, goes in there.items()}
    value = whole(sorted(users), sorted(groups))
    assert remap_acl(remap_acl(value, there, there), back, back) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_an_acl_or_refused(value: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert remap_acl(value, {}, {})[:4] == value[:4]
