"""The check of merged accounts passes a right merge and finds every planted fault. Touches temporary books only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.accounts import Books, check_merge, read_books

Texts = dict[str, str]
OLD: Texts = {
    "passwd": "root:x:0:0::/root:/bin/sh\nfirst:x:102:109::/:/bin/sh\nsecond:x:103:110::/:/bin/sh\n"
    "alice:x:1000:1000:Alice:/home/alice:/bin/bash\nalice-too:x:1000:1000::/home/alice:/bin/sh\n",
    "group": "root:x:0:\nfirst:x:109:\nsecond:x:110:\nalice:x:1000:\neditors:x:1500:alice\n",
    "shadow": "root:A:1::::::\nfirst:!:1::::::\nsecond:!:1::::::\nalice:hash:1::::::\nalice-too:!:1::::::\n",
    "gshadow": "root:*::\nfirst:!::\nsecond:!::\nalice:!::\neditors:!:alice:alice\n",
    "subuid": "alice:100000:65536\n1000:700000:1000\n",
    "subgid": "alice:100000:65536\n",
}
NEW: Texts = {
    "passwd": "root:x:0:0::/root:/bin/sh\nsecond:x:102:109::/:/bin/sh\nolga:x:1000:1000::/home/olga:/bin/sh\n",
    "group": "root:x:0:\nsecond:x:109:\nolga:x:1000:\neditors:x:1500:olga\n",
    "shadow": "root:B:1::::::\nsecond:!:1::::::\nolga:hash:1::::::\n",
    "gshadow": "root:*::\nsecond:!::\nolga:!::\neditors:!::olga\n",
    "subuid": "olga:100000:65536\n",
    "subgid": "olga:100000:65536\n",
}
MERGED: Texts = {
    "passwd": "root:x:0:0::/root:/bin/sh\nsecond:x:102:109::/:/bin/sh\nolga:x:1000:1000::/home/olga:/bin/sh\n"
    "first:x:103:110::/:/bin/sh\nalice:x:1001:1001:Alice:/home/alice:/bin/bash\n"
    "alice-too:x:1001:1001::/home/alice:/bin/sh\n",
    "group": "root:x:0:\nsecond:x:109:\nolga:x:1000:\neditors:x:1500:olga,alice\nfirst:x:110:\nalice:x:1001:\n",
    "shadow": "root:A:1::::::\nsecond:!:1::::::\nolga:hash:1::::::\nfirst:!:1::::::\nalice:hash:1::::::\n"
    "alice-too:!:1::::::\n",
    "gshadow": "root:*::\nsecond:!::\nolga:!::\neditors:!:alice:olga,alice\nfirst:!::\nalice:!::\n",
    "subuid": "olga:100000:65536\nalice:165536:65536\n1001:700000:1000\n",
    "subgid": "olga:100000:65536\nalice:165536:65536\n",
}
# book, what is written there, what is written instead, what the complaint says
FAULTS = (
    ("passwd", "first:x:103:110::/:/bin/sh\n", "", "user first is missing"),
    ("passwd", "/home/alice:/bin/bash", "/home/alice:/bin/sh", "user alice:"),
    ("passwd", "first:x:103:110", "first:x:103:109", "group first became second"),
    ("passwd", "first:x:103:110", "first:x:102:110", "first share 102"),
    ("passwd", "second:x:102", "second:x:104", "was 102 on the new machine"),
    ("passwd", "first:x:103:110", "first:x:1103:110", "left its range"),
    ("passwd", "alice-too:x:1001", "alice-too:x:1002", "no aliases any more"),
    ("passwd", "olga:x:1000:1000::/home/olga:/bin/sh\n", "", "olga of the new machine is lost"),
    ("group", "first:x:110:\n", "", "group first is missing"),
    ("group", "alice:x:1001", "alice:x:1000", "share 1000"),
    ("group", "olga,alice", "alice", "members"),
    ("group", "olga,alice", "olga", "members"),
    ("shadow", "alice:hash", "alice:other", "shadow of alice differs"),
    ("shadow", "root:A", "root:B", "shadow of root differs"),
    ("shadow", "olga:hash:1::::::\n", "", "user olga has no shadow line"),
    ("gshadow", "olga,alice", "olga", "members"),
    ("gshadow", "editors:!:alice", "editors:!:", "administrators"),
    ("gshadow", "first:!::\n", "", "group first has no gshadow line"),
    ("subuid", "alice:165536", "alice:100000", "overlap"),
    ("subuid", "alice:165536:65536\n", "", "lost a range of 65536"),
    ("subuid", "1001:700000", "1000:700000", "lost a range of 1000"),
    ("subgid", "olga:100000:65536\n", "", "of the new machine is lost"),
)


def books(folder: Path, texts: Texts) -> Books:
    (folder / "etc").mkdir(parents=True)
    for name, text in texts.items():
        (folder / "etc" / name).write_text(text)
    return read_books(folder)


def test_a_right_merge_has_no_complaints(tmp_path: Path) -> None:
    old, new = books(tmp_path / "old", OLD), books(tmp_path / "new", NEW)
    assert check_merge(old, new, books(tmp_path / "merged", MERGED)) == []


def test_a_clone_keeps_its_own_root_password(tmp_path: Path) -> None:
    old, new = books(tmp_path / "old", OLD), books(tmp_path / "new", NEW)
    kept = books(tmp_path / "kept", MERGED | {"shadow": MERGED["shadow"].replace("root:A", "root:B")})
    assert check_merge(old, new, kept, role="clone") == []


@pytest.mark.parametrize(("book", "right", "wrong", "complaint"), FAULTS, ids=lambda part: repr(part)[:40])
def test_every_planted_fault_is_named(tmp_path: Path, book: str, right: str, wrong: str, complaint: str) -> None:
    assert right in MERGED[book]
    merged = MERGED | {book: MERGED[book].replace(right, wrong)}
    found = check_merge(books(tmp_path / "old", OLD), books(tmp_path / "new", NEW), books(tmp_path / "merged", merged))
    assert any(complaint in each for each in found), found
