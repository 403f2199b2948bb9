"""Comparison: exactly the changes that were made, on trees that were never seen before and on the cases that hurt."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tests.unit.entries import PATHS, record_of
from tklb.diff.files import compare
from tklb.diff.listing import compare_listings, format_listing
from tklb.model.files import Change, FileChange, FileEntry
from tklb.model.report import Skipped

FILE = FileEntry(
    b"/f", "file", 0o644, 0, 0, b"root", b"root", 5, 10, 20, None, None, 1, 2, 1, None, None, ((b"user.x", b"1"),)
)
SHA, OTHER_SHA = "ab" * 32, "cd" * 32
EXAMPLES = {
    "file": FILE,
    "dir": FILE._replace(kind="dir", size=None, nlink=2),
    "link": FILE._replace(kind="link", size=None, link=b"there"),
    "fifo": FILE._replace(kind="fifo", size=None),
    "char": FILE._replace(kind="char", size=None, device=(1, 3)),
}
# What is done to an entry, and what that is. Every deed moves ctime, as it does in life.
ALWAYS: dict[str, tuple[dict[str, Any], Change | None]] = {
    "nothing": ({"ctime_ns": 20}, None),
    "chmod": ({"mode": 0o600}, Change.METADATA),
    "chown": ({"uid": 7, "uname": b"bob"}, Change.METADATA),
    "chgrp": ({"gid": 7, "gname": None}, Change.METADATA),
    "setfattr": ({"xattrs": ()}, Change.METADATA),
    "another id for the same name": ({"uid": 9, "ctime_ns": 20}, None),
}
DEEDS: dict[str, dict[str, tuple[dict[str, Any], Change | None]]] = {
    "file": {
        "grow": ({"size": 6, "mtime_ns": 11}, Change.EDITED),
        "rewrite": ({"mtime_ns": 11}, Change.EDITED),
        "rewrite and set mtime back": ({}, Change.EDITED),
        "replace and set mtime back": ({"ino": 9}, Change.EDITED),
        "replace, set mtime back, chmod": ({"ino": 9, "mode": 0o600}, Change.EDITED),
        "add a link": ({"nlink": 2}, None),
        "become sparse": ({"sparse": True, "ctime_ns": 20}, None),
    },
    "dir": {"use": ({"mtime_ns": 11, "nlink": 3}, None), "move elsewhere": ({"ino": 9}, None)},
    "link": {
        "point elsewhere": ({"link": b"here", "ino": 9, "mtime_ns": 11}, Change.EDITED),
        "make anew": ({"ino": 9, "mtime_ns": 11}, Change.METADATA),
        "chmod": ({"mode": 0o755}, None),
    },
    "fifo": {"use": ({"mtime_ns": 11}, None)},
    "char": {"use": ({"mtime_ns": 11}, None), "mknod": ({"device": (1, 5), "ino": 9}, Change.EDITED)},
}


def deeds_of(kind: str) -> dict[str, tuple[dict[str, Any], Change | None]]:
    return {**ALWAYS, **DEEDS[kind]}


def changes(base: list[FileEntry], now: list[FileEntry], **more: Any) -> list[tuple[bytes, str]]:
    return [(path, change.value) for path, change, _, _ in compare(base, now, **more)]


def change_of(base: FileEntry, now: FileEntry, **more: Any) -> str | None:
    found = changes([base], [now], **more)
    assert len(found) < 2
    return found[0][1] if found else None


CASES = [(kind, deed) for kind in EXAMPLES for deed in deeds_of(kind)]


@pytest.mark.parametrize(("kind", "deed"), CASES, ids=lambda word: word)
def test_a_deed_is_the_change_it_should_be(kind: str, deed: str) -> None:
    done, expected = deeds_of(kind)[deed]
    assert change_of(EXAMPLES[kind], EXAMPLES[kind]._replace(**{"ctime_ns": 21, **done})) == expected


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[FileEntry], list[FileEntry], list[tuple[bytes, str]]]:
    """Give a tree, the tree after deeds, and the changes by a model that knows the deeds."""
    base, now, expected = {}, {}, []
    for path in draw(st.lists(PATHS, max_size=8, unique=True)):
        kind = draw(st.sampled_from(sorted(EXAMPLES)))
        entry = EXAMPLES[kind]._replace(path=path)
        deed = draw(st.sampled_from(("add", "delete", "replace", *deeds_of(kind))))
        if deed != "add":
            base[path] = entry
        if deed == "replace":
            now[path] = EXAMPLES["dir" if kind != "dir" else "file"]._replace(path=path)
            expected += [(path, "deleted"), (path, "new")]
        elif deed == "add":
            now[path] = entry
            expected.append((path, "new"))
        elif deed == "delete":
            expected.append((path, "deleted"))
        else:
            done, change = deeds_of(kind)[deed]
            now[path] = entry._replace(**{"ctime_ns": 21, **done})
            expected += [(path, change.value)] if change else []
    return sorted(base.values()), sorted(now.values()), sorted(expected)


@settings(max_examples=examples(400))
@given(histories())
def test_exactly_what_was_done_is_found(
    history: tuple[list[FileEntry], list[FileEntry], list[tuple[bytes, str]]],
) -> None:
    base, now, expected = history
    assert changes(base, now) == expected


@given(histories())
def test_listings_compare_as_entries_do(
    history: tuple[list[FileEntry], list[FileEntry], list[tuple[bytes, str]]],
) -> None:
    base, now, _ = history
    old, new = (io.BytesIO(b"".join(format_listing(map(record_of, some)))) for some in (base, now))
    assert list(compare_listings(old, new)) == list(compare(base, now))


@given(histories())
def test_nothing_changes_between_a_tree_and_itself(history: tuple[list[FileEntry], list[FileEntry], Any]) -> None:
    for tree in history[:2]:
        assert changes(tree, tree) == []


def test_same_digest_makes_a_touched_file_metadata() -> None:
    base = FILE._replace(sha256=SHA)
    assert change_of(base, base._replace(mtime_ns=11, ctime_ns=21)) == "metadata"
    assert change_of(base, base._replace(ctime_ns=21)) is None


def test_another_digest_is_an_edit_though_every_time_was_set_back() -> None:
    assert change_of(FILE._replace(sha256=SHA), FILE._replace(sha256=OTHER_SHA)) == "edited"


def test_md5_serves_where_that_is_all_the_base_has() -> None:
    base = FileEntry(b"/f", "file", md5="ab" * 16)
    assert change_of(base, FILE._replace(md5="ab" * 16)) is None
    assert change_of(base, FILE._replace(md5="cd" * 16)) == "edited"


def test_a_silent_base_is_compared_by_what_it_says() -> None:
    assert change_of(FileEntry(b"/f", "file"), FILE) is None
    assert change_of(FileEntry(b"/f", "link"), EXAMPLES["link"]) is None
    assert change_of(FileEntry(b"/f", "file", mode=0o644), FILE) is None
    assert change_of(FileEntry(b"/f", "file", uid=3), FILE) == "metadata"
    assert change_of(FileEntry(b"/f", "file", xattrs=()), FILE) == "metadata"


def test_the_digest_is_asked_only_where_base_has_one_and_sizes_agree() -> None:
    asked = []

    def digest(entry: FileEntry, algorithm: str) -> str:
        asked.append((entry.path, algorithm))
        return SHA

    base = [FILE._replace(path=path, sha256=sha) for path, sha in ((b"/a", None), (b"/b", SHA), (b"/c", OTHER_SHA))]
    base.append(FILE._replace(path=b"/d", sha256=SHA, size=9))
    now = [FILE._replace(path=path) for path in (b"/a", b"/b", b"/c", b"/d")]
    assert changes(base, now, digest=digest) == [(b"/c", "edited"), (b"/d", "edited")]
    assert asked == [(b"/b", "sha256"), (b"/c", "sha256")]


def test_a_digest_that_cannot_be_had_leaves_it_to_the_times() -> None:
    base = FILE._replace(sha256=SHA)
    assert change_of(base, FILE, digest=lambda entry, algorithm: None) is None
    assert change_of(base, FILE._replace(mtime_ns=11), digest=lambda entry, algorithm: None) == "edited"


def test_a_path_that_left_a_group_of_links_is_metadata() -> None:
    base = FILE._replace(nlink=2, sha256=SHA)
    assert change_of(base, base._replace(nlink=1, ino=9, ctime_ns=21)) == "metadata"
    assert change_of(base, base._replace(nlink=1, ctime_ns=21)) is None


def test_a_file_that_became_a_folder_is_deleted_and_new_with_what_is_in_it() -> None:
    now = [EXAMPLES["dir"], FILE._replace(path=b"/f/x")]
    assert changes([FILE], now) == [(b"/f", "deleted"), (b"/f", "new"), (b"/f/x", "new")]
    assert changes(now, [FILE]) == [(b"/f", "deleted"), (b"/f", "new"), (b"/f/x", "deleted")]


def test_changes_carry_both_entries() -> None:
    now = FILE._replace(size=6)
    assert list(compare([FILE], [now])) == [FileChange(b"/f", Change.EDITED, FILE, now)]


def test_what_could_not_be_seen_is_not_called_deleted() -> None:
    base = [FILE._replace(path=path) for path in (b"/a", b"/b/x", b"/b2", b"/c")]
    unseen = [Skipped(b"/b", "Permission denied"), Skipped(b"/c", "vanished")]
    assert changes(base, [], unseen=unseen) == [(b"/a", "deleted"), (b"/b2", "deleted")]
    assert changes(base, [], unseen=[Skipped(b"/", "no")]) == []


@pytest.mark.parametrize("name", ["base", "new"])
@pytest.mark.parametrize("paths", [(b"/b", b"/a"), (b"/a", b"/a"), (b"/a/x", b"/a-b")])
def test_an_unsorted_listing_is_refused(name: str, paths: tuple[bytes, ...]) -> None:
    wrong = [FILE._replace(path=path) for path in paths]
    with pytest.raises(ValueError, match=name):
        changes(*(([wrong, []]) if name == "base" else ([], wrong)))


def test_both_inputs_are_read_one_ahead_only() -> None:
    taken = {"base": 0, "now": 0}

    def counted(name: str) -> Iterator[FileEntry]:
        for number in range(1000):
            taken[name] += 1
            yield FILE._replace(path=b"/%04d" % number, size=number if name == "now" else 5)

    found = compare(counted("base"), counted("now"))
    next(found)
    assert max(taken.values()) <= 3


def test_a_foreign_listing_is_sorted_first() -> None:
    base = b"#mtree\n. type=dir\n./b type=file size=1\n./a type=dir\n./a/x type=file size=1\n"
    now = b"#mtree v2.0\n. type=dir\n./a type=dir\n./a/x type=file size=2\n./b type=file size=1\n"
    found = compare_listings(io.BytesIO(base), io.BytesIO(now))
    assert [(change.path, change.change) for change in found] == [(b"/a/x", "edited")]
