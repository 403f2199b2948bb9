"""Where ids go: classes of ids, order, and what counts as free."""

import pytest

from tklb.diff.accounts.id_map import RANGES, IdMap, map_ids
from tklb.diff.accounts.lines import PASSWD, AccountTable, parse, parse_id, read_loosely, split_members

NONE: frozenset[int] = frozenset()


def table(**ids: int) -> AccountTable:
    return parse(PASSWD, [b"%s:x:%d:0::/:/bin/sh" % (name.encode(), uid) for name, uid in ids.items()])


def mapped(old: AccountTable, new: AccountTable, reserved: frozenset[int] = NONE) -> IdMap:
    return map_ids("uid", old, new, new.claimed_ids, reserved)


@pytest.mark.parametrize(
    ("taken", "goes"),
    [
        (1, 2),
        (99, 1),
        (100, 101),
        (104, 100),
        (999, 100),
        (1000, 1001),
        (59999, 1000),
        (60000, 60001),
        (64999, 60000),
        (65000, 65001),
        (65533, 65000),
        (65536, 65537),
        (2**32 - 3, 65536),
    ],
)
def test_a_taken_id_moves_to_the_lowest_free_one_of_its_range(taken: int, goes: int) -> None:
    assert mapped(table(a=taken), table(b=taken)).ids == {taken: goes}


@pytest.mark.parametrize("fixed", [0, 65534, 65535, 2**32 - 2])
def test_ids_with_a_meaning_of_their_own_do_not_move(fixed: int) -> None:
    found = mapped(table(a=fixed), table(b=fixed))
    assert found.ids == {fixed: fixed}
    assert found.warnings == (f"uid {fixed} of a is also b's here",)


def test_every_range_can_fill_up_and_then_is_refused() -> None:
    ids = RANGES[1]
    full = parse(PASSWD, [b"b%d:x:%d:0:::" % (uid, uid) for uid in ids if uid != 555])
    assert mapped(table(a=104), full).ids == {104: 555}
    with pytest.raises(ValueError, match="no free uid between 100 and 999 for 105"):
        mapped(table(a=104, c=105), full)


def test_moved_ids_differ_from_each_other_and_from_reserved_ones() -> None:
    found = mapped(table(a=100, b=101, c=102), table(x=100, y=101, z=102), frozenset({104}))
    assert found.ids == {100: 103, 101: 105, 102: 106}


def test_a_number_no_name_had_keeps_its_value() -> None:
    assert mapped(table(a=104), table(b=104))(500) == 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"0" * 5000, 0),
        (b"4294967294", 2**32 - 2),
        (b"4294967295", None),
        (b"", None),
        (b"-1", None),
        (b" 1", None),
        (b"1" * 5000, None),
        ("٣".encode(), None),
        (b"0x10", None),
    ],
)
def test_ids_are_plain_decimal(field: bytes, value: int | None) -> None:
    assert parse_id(field) == value


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        (b"evil::0:0", (b"evil", 0)),
        (b"  evil::+0:0:", (b"evil", 0)),
        (b"low:x:-1:0:::", None),
        (b"high:x:4294967296:0", None),
        (b"zeros:x:%05000d:0" % 7, (b"zeros", 7)),
        (b"cut:x:5:6\0:::", (b"cut", 5)),
        (b"none:x:5", None),
        (b"none:x:five:5:::", None),
        (b":x:5:5:::", (b"", 5)),
        (b"+::0:0:::", None),
        (b"#root::0:0:::", None),
    ],
)
def test_odd_lines_are_read_as_the_c_library_would(line: bytes, reading: tuple[bytes, int] | None) -> None:
    assert read_loosely(PASSWD, line) == reading


def test_members_come_once_and_in_order() -> None:
    assert split_members(b"b,a,,b,c,") == (b"b", b"a", b"c")
