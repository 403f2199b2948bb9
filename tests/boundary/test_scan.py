"""The scan on real trees: whole metadata, odd names, depths, races and what must never be looked at.

Touches folders of its own; mounts below them and unmounts. Needs root, setfacl, setcap and mount.
"""

import contextlib
import gc
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boundary import nasty
from tests.unit.entries import record_of
from tklb.diff.files import compare
from tklb.diff.rules import Rule, Rules
from tklb.host.files import walk
from tklb.host.files.digest import ContentChanged, digest_with_status
from tklb.host.files.scan import read_owner_names, scan
from tklb.host.files.scan_records import scan_records
from tklb.model.files import FileEntry
from tklb.model.report import Skipped, SkippedItems

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and sets owners")
ALL = Rules([Rule(include=True, pattern=b"/")])


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    tree = bytes(tmp_path / "tree")
    os.mkdir(tree)
    return tree


@pytest.fixture
def nasty_tree(tree: bytes) -> bytes:
    nasty.make(tree)
    return tree


def entries(tree: bytes, rules: Rules = ALL, **more: object) -> dict[bytes, FileEntry]:
    skipped: list[Skipped] = []
    found = {entry.path: entry for entry in scan(tree, rules, skipped=skipped, **more)}  # type: ignore[arg-type]
    assert not skipped
    return found


def by_hand(tree: bytes) -> dict[bytes, os.stat_result]:
    """Give what is in a tree by other means."""
    found = {b"/": os.lstat(tree)}
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = folder + b"/" + name
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                found[path[len(tree) :]] = os.lstat(path)
    return found


def rules(*lines: tuple[bool, bytes]) -> Rules:
    return Rules([Rule(*line) for line in lines])


# ---------------------------------------------------------------- what is recorded


def test_labels_that_a_security_module_keeps_for_itself_are_not_listed(tree: bytes) -> None:
    Path(os.fsdecode(tree + b"/labelled")).touch()
    os.setxattr(tree + b"/labelled", b"security.selinux", b"some_label_t")
    os.setxattr(tree + b"/labelled", b"user.mine", b"1")
    assert entries(tree)[b"/labelled"].xattrs == ((b"user.mine", b"1"),)


def test_every_path_but_sockets_is_given_in_byte_order(nasty_tree: bytes) -> None:
    assert list(entries(nasty_tree)) == sorted(by_hand(nasty_tree))
    assert b"/socket" in {b"/" + name for name in os.listdir(nasty_tree)}


def test_the_status_is_recorded_whole(nasty_tree: bytes) -> None:
    found = entries(nasty_tree)
    for path, status in by_hand(nasty_tree).items():
        entry = found[path]
        assert (entry.mode, entry.uid, entry.gid) == (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        assert (entry.mtime_ns, entry.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
        assert (entry.dev, entry.ino) == (status.st_dev, status.st_ino)
        assert entry.size == (status.st_size if stat.S_ISREG(status.st_mode) else None)
        assert entry.nlink == (None if stat.S_ISDIR(status.st_mode) else status.st_nlink)
    for name, moment in nasty.TIMES.items():
        assert found[b"/" + name].mtime_ns == moment
    assert found[b"/abs"].mtime_ns == -5


def test_links_devices_pipes_and_holes_are_recorded(nasty_tree: bytes) -> None:
    found = entries(nasty_tree)
    for name, target in nasty.TARGETS.items():
        assert (found[b"/" + name].kind, found[b"/" + name].link) == ("link", target)
    assert (found[b"/chr"].kind, found[b"/chr"].device) == ("char", (259, 70000))
    assert (found[b"/blk"].kind, found[b"/blk"].device) == ("block", (511, 1048575))
    assert found[b"/fifo"].kind == "fifo"
    assert found[b"/sparse"].sparse
    assert [path for path, entry in found.items() if entry.sparse] == [b"/sparse"]
    group = {path for path, entry in found.items() if entry.ino == found[b"/setuid"].ino}
    assert group == {b"/setuid", b"/hard", b"/dir/hard"}
    assert found[b"/hard"].nlink == 3


def test_attributes_acls_and_capabilities_are_recorded(nasty_tree: bytes) -> None:
    found = entries(nasty_tree)
    assert found[b"/f"].xattrs == ()
    assert found[b"/attributes"].xattrs == ((b"user.empty", b""), (b"user.odd=#\xc3\xa9", b"\0\n\xff"))
    names = {path: [name for name, _ in found[path].xattrs or ()] for path in (b"/acl", b"/dir", b"/capable")}
    assert names[b"/acl"] == [b"system.posix_acl_access"]
    assert names[b"/dir"] == [b"system.posix_acl_default", b"trusted.x"]
    assert names[b"/capable"] == [b"security.capability"]
    for path in names:
        for name, value in found[path].xattrs or ():
            assert os.getxattr(nasty_tree + path, name) == value


def test_digests_are_taken_when_asked(nasty_tree: bytes) -> None:
    found = entries(nasty_tree, digest=True)
    said = subprocess.run(["sha256sum", nasty_tree + b"/a#b"], capture_output=True, check=True).stdout
    assert found[b"/a#b"].sha256 == said.split()[0].decode()
    assert {entry.kind for entry in found.values() if entry.sha256} == {"file"}
    assert {entry.kind for entry in found.values() if not entry.sha256} == {"dir", "link", "fifo", "char", "block"}


@pytest.mark.parametrize("with_digest", [False, True])
def test_records_are_what_the_entries_would_be_written_as(nasty_tree: bytes, with_digest: bool) -> None:
    found = scan(nasty_tree, ALL, skipped=[], digest=with_digest)
    assert list(scan_records(nasty_tree, ALL, skipped=[], digest=with_digest)) == list(map(record_of, found))


def test_owners_are_named_by_the_files_of_the_root(tree: bytes) -> None:
    os.mkdir(tree + b"/etc")
    passwd = b"first:x:1234:1:::\nalias:x:1234:1:::\n\xff\xfe:x:7:1:::\nbroken\n:x:8:1::\nroot:x:zero:0\n"
    nasty.write(tree + b"/etc/passwd", passwd)
    nasty.write(tree + b"/etc/group", b"people:x:77:a,b\n+::::\n")
    nasty.write(tree + b"/file")
    os.chown(tree + b"/file", 1234, 77)
    assert read_owner_names(tree).users == {1234: b"first", 7: b"\xff\xfe"}
    entry = entries(tree)[b"/file"]
    assert (entry.uname, entry.gname) == (b"first", b"people")
    assert (entries(tree)[b"/"].uname, entries(tree)[b"/"].gname) == (None, None)


# ---------------------------------------------------------------- where it looks


def test_nothing_outside_the_root_is_seen_through_links(tree: bytes, tmp_path: Path) -> None:
    outside = bytes(tmp_path / "outside")
    os.makedirs(outside + b"/etc")
    nasty.write(outside + b"/etc/passwd", b"outsider:x:0:0:::\n")
    for name, target in ((b"etc", outside + b"/etc"), (b"up", b".."), (b"root", b"/")):
        os.symlink(target, tree + b"/" + name)
    assert read_owner_names(tree).users == {}
    looking = rules((True, b"/etc/passwd"), (True, b"/up/outside"), (True, b"/root/etc"))
    assert entries(tree, looking) == {}
    assert {path: entry.kind for path, entry in entries(tree).items()} == {
        b"/": "dir", b"/etc": "link", b"/up": "link", b"/root": "link",
    }  # fmt: skip
    os.unlink(tree + b"/etc")
    os.mkdir(tree + b"/etc")
    os.symlink(outside + b"/etc/passwd", tree + b"/etc/passwd")
    assert read_owner_names(tree).users == {}


def test_only_what_rules_take_in_is_given_without_its_parents(tree: bytes) -> None:
    for folder in (b"/a/b/c", b"/a/x", b"/a-b", b"/z"):
        os.makedirs(tree + folder)
        nasty.write(tree + folder + b"/file")
    looking = rules((True, b"/a/b"), (False, b"/a/b/c"), (True, b"/a/b/c/file"), (True, b"/z*"), (True, b"/no/where"))
    assert list(entries(tree, looking)) == [b"/a/b", b"/a/b/c/file", b"/z", b"/z/file"]


def test_a_glob_or_literal_in_an_excluded_folder_is_found(tree: bytes) -> None:
    for name in (b"keep.conf", b"a*", b"ab"):
        os.makedirs(tree + b"/x/y", exist_ok=True)
        nasty.write(tree + b"/x/y/" + name)
    assert list(entries(tree, rules((True, b"/x"), (False, b"/x/y"), (True, b"/x/**/*.conf")))) == [
        b"/x", b"/x/y/keep.conf",
    ]  # fmt: skip
    assert list(entries(tree, Rules([Rule(True, b"/x/y/a*", is_literal=True)]))) == [b"/x/y/a*"]


def test_own_folders_are_passed_over(tree: bytes) -> None:
    os.makedirs(tree + b"/var/lib/tklb/stage")
    os.makedirs(tree + b"/var/lib/tklb-other")
    found = entries(tree, own=(b"/var/lib/tklb",))
    assert list(found) == [b"/", b"/var", b"/var/lib", b"/var/lib/tklb-other"]


@contextlib.contextmanager
def mounted(kind: str, at: bytes) -> Iterator[None]:
    os.makedirs(at)
    subprocess.run(["mount", "-t", kind, kind, at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


def test_kernel_file_systems_are_never_entered_but_others_are(tree: bytes) -> None:
    with mounted("proc", tree + b"/pro c\\"), mounted("sysfs", tree + b"/sys"), mounted("tmpfs", tree + b"/data"):
        nasty.write(tree + b"/data/file")
        assert list(entries(tree)) == [b"/", b"/data", b"/data/file"]
        assert entries(tree, rules((True, b"/sys/kernel"), (True, b"/pro c\\\\/self"))) == {}
        assert entries(tree + b"/sys") == {}
        os.symlink(tree, tree + b" by link")
        assert list(entries(tree + b" by link")) == [b"/", b"/data", b"/data/file"]


def test_the_machine_is_scanned_without_its_kernel_file_systems() -> None:
    found = entries(b"/", rules((True, b"/proc"), (True, b"/sys"), (True, b"/dev/pts"), (True, b"/etc/hostname")))
    assert list(found) == [b"/etc/hostname"]


@pytest.mark.parametrize(("depth", "name"), [(30, b"n" * 250), (450, b"deep")])
def test_trees_deeper_than_any_path_are_walked(tree: bytes, depth: int, name: bytes) -> None:
    folder = os.open(tree, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        os.mkdir(b"side", dir_fd=folder)
        os.close(os.open(b"side/file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.setxattr(folder, b"user.deepest", b"1")
    os.close(folder)
    gc.collect()  # what other tests left open is closed now, not in between
    opened = len(os.listdir("/proc/self/fd"))
    found = entries(tree, digest=True)
    assert len(found) == 3 * depth + 1
    assert list(found) == sorted(found)
    assert found[(b"/" + name) * depth].xattrs == ((b"user.deepest", b"1"),)
    assert len(os.listdir("/proc/self/fd")) == opened
    subprocess.run(["rm", "-rf", tree], check=True)


def test_a_scan_that_is_given_up_leaves_no_descriptor_open(nasty_tree: bytes) -> None:
    opened = len(os.listdir("/proc/self/fd"))
    walk = scan(nasty_tree, ALL, skipped=[])
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == opened


# ---------------------------------------------------------------- what goes wrong


def test_a_root_that_is_no_folder_is_an_error(tree: bytes) -> None:
    with pytest.raises(FileNotFoundError):
        list(scan(tree + b"/absent", ALL, skipped=[]))


def test_what_vanishes_meanwhile_is_named(tree: bytes) -> None:
    for name in (b"a", b"b", b"c", b"d/x"):
        os.makedirs(os.path.dirname(tree + b"/" + name), exist_ok=True)
        nasty.write(tree + b"/" + name)
    skipped: list[Skipped] = []
    walk = scan(tree, ALL, skipped=skipped)
    seen = [next(walk).path, next(walk).path]
    os.unlink(tree + b"/b")
    subprocess.run(["rm", "-r", tree + b"/d"], check=True)
    seen += [entry.path for entry in walk]
    assert seen == [b"/", b"/a", b"/c"]
    assert skipped == [Skipped(path, "vanished while tklb read it") for path in (b"/b", b"/d")]


def test_a_folder_swapped_for_a_link_is_not_followed(tree: bytes, tmp_path: Path) -> None:
    os.makedirs(tree + b"/a/inside")
    nasty.write(tree + b"/a/secret")
    outside = bytes(tmp_path / "outside")
    os.mkdir(outside)
    nasty.write(outside + b"/secret", b"not to be seen")
    skipped: list[Skipped] = []
    walk = scan(tree, ALL, skipped=skipped, digest=True)
    assert [next(walk).path, next(walk).path] == [b"/", b"/a"]
    os.rename(tree + b"/a", tree + b"/was a")
    os.symlink(outside, tree + b"/a")
    assert list(walk) == []
    assert [item.item for item in skipped] == [b"/a"]


def test_a_folder_swapped_while_we_are_in_it_is_read_to_its_end(tree: bytes, tmp_path: Path) -> None:
    os.mkdir(tree + b"/a")
    for name in (b"1", b"2"):
        nasty.write(tree + b"/a/" + name)
        os.setxattr(tree + b"/a/" + name, b"user.true", b"1")
    outside = bytes(tmp_path / "outside")
    os.mkdir(outside)
    nasty.write(outside + b"/2", b"not to be seen")
    walk = scan(tree, ALL, skipped=[], digest=True)
    assert [next(walk).path for _ in range(3)] == [b"/", b"/a", b"/a/1"]
    os.rename(tree + b"/a", tree + b"/was a")
    os.symlink(outside, tree + b"/a")
    [entry] = walk
    assert (entry.path, entry.size, entry.xattrs) == (b"/a/2", 1, ((b"user.true", b"1"),))


def test_folders_above_that_moved_are_named(tree: bytes) -> None:
    """Deeper than what is kept open, the way back is through `..`, and must lead where we came from."""
    depth = 230
    os.makedirs(tree + b"/d" * depth)
    nasty.write(tree + b"/z")
    skipped: list[Skipped] = []
    walk = scan(tree, ALL, skipped=skipped)
    for entry in walk:
        if len(entry.path) == 2 * depth:
            break
    os.mkdir(tree + b"/elsewhere")
    os.rename(tree + b"/d" * 25, tree + b"/elsewhere/d")
    assert b"/z" not in [entry.path for entry in walk]
    assert Skipped(b"/", "moved while tklb read it") in skipped


@pytest.fixture
def public_tree() -> Iterator[bytes]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield os.fsencode(folder)


def test_what_may_not_be_read_is_named_and_the_rest_goes_on(public_tree: bytes) -> None:
    tree = public_tree
    for folder in (b"/closed", b"/excluded", b"/open"):
        os.mkdir(tree + folder)
        nasty.write(tree + folder + b"/file")
    nasty.write(tree + b"/secret", mode=0)
    os.chmod(tree + b"/closed", 0)
    os.chmod(tree + b"/excluded", 0)
    skipped: list[Skipped] = []
    os.seteuid(65534)
    try:
        looking = rules((True, b"/"), (False, b"/excluded"))
        found = {entry.path: entry for entry in scan(tree, looking, skipped=skipped, digest=True)}
    finally:
        os.seteuid(0)
    assert list(found) == [b"/", b"/closed", b"/open", b"/open/file", b"/secret"]
    assert found[b"/secret"].sha256 is None
    assert found[b"/open/file"].sha256
    assert skipped == [Skipped(b"/closed", "Permission denied"), Skipped(b"/secret", "Permission denied")]


def test_what_a_rule_names_in_a_closed_folder_is_named(public_tree: bytes) -> None:
    os.mkdir(public_tree + b"/half")
    nasty.write(public_tree + b"/half/file")
    os.chmod(public_tree + b"/half", 0o744)
    skipped: list[Skipped] = []
    os.seteuid(65534)
    try:
        assert not list(scan(public_tree, rules((True, b"/half/file"), (True, b"/half/none/x")), skipped=skipped))
    finally:
        os.seteuid(0)
    assert [item.item for item in skipped] == [b"/half/file", b"/half/none"]


def test_a_base_is_not_called_deleted_where_the_scan_could_not_look(public_tree: bytes) -> None:
    os.mkdir(public_tree + b"/closed")
    nasty.write(public_tree + b"/closed/file")
    base = list(entries(public_tree).values())
    os.chmod(public_tree + b"/closed", 0)
    skipped: list[Skipped] = []
    os.seteuid(65534)
    try:
        found = list(compare(base, scan(public_tree, ALL, skipped=skipped), unseen=skipped))
    finally:
        os.seteuid(0)
    assert [(change.path, change.change.value) for change in found] == [(b"/closed", "metadata")]


# ---------------------------------------------------------------- large files, read by other threads


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_large_files_among_small_ones_have_their_digests_and_their_places(tree: bytes) -> None:
    for number in range(150):
        nasty.write(tree + b"/%03d" % number, os.urandom(300_000 if number % 3 else 10))
    os.setxattr(tree + b"/001", b"user.large", b"x")
    before = descriptors()
    found = list(scan(tree, ALL, skipped=[], digest=True))
    assert descriptors() == before
    assert [entry.path for entry in found] == sorted(entry.path for entry in found)
    for entry in found:
        if entry.kind == "file":
            with open(tree + entry.path, "rb") as stream:
                assert entry.sha256 == hashlib.file_digest(stream, "sha256").hexdigest()
    assert {entry.path: entry.xattrs for entry in found}[b"/001"] == ((b"user.large", b"x"),)


def test_large_file_that_vanishes_before_it_is_read_is_named(tree: bytes) -> None:
    for number in range(200):
        nasty.write(tree + b"/%03d" % number, bytes(300_000))
    skipped: list[Skipped] = []
    found = scan(tree, ALL, skipped=skipped, digest=True)
    assert next(found).path == b"/"
    assert next(found).path == b"/000"
    for number in range(199, 150, -1):
        os.unlink(tree + b"/%03d" % number)
    rest = {entry.path: entry for entry in found}
    gone = [b"/%03d" % number for number in range(151, 200)]
    assert [item.item for item in skipped] == gone
    assert all(path not in rest or rest[path].sha256 is None for path in gone)
    assert rest[b"/150"].sha256


def test_scan_that_is_broken_off_leaves_no_file_open_and_no_thread_behind(tree: bytes) -> None:
    for number in range(100):
        nasty.write(tree + b"/%03d" % number, bytes(300_000))
    before, threads = descriptors(), threading.active_count()
    found = scan(tree, ALL, skipped=[], digest=True)
    next(found)
    next(found)
    assert threading.active_count() > threads
    found.close()  # type: ignore[attr-defined]
    assert (descriptors(), threading.active_count()) == (before, threads)


def test_attribute_set_while_a_large_file_waits_is_recorded_or_read_next_time(tree: bytes) -> None:
    """What is recorded must never pair new times with old attributes: the next scan would not look again."""
    for number in range(80):
        nasty.write(tree + b"/%03d" % number, bytes(300_000))
    found = scan(tree, ALL, skipped=[], digest=True)
    first = [next(found), next(found)]
    os.setxattr(tree + b"/040", b"user.late", b"x")
    seen = {entry.path: entry for entry in (*first, *found)}
    again = {entry.path: entry for entry in scan(tree, ALL, skipped=[], known=seen.values(), digest=True)}
    assert again[b"/040"].xattrs == ((b"user.late", b"x"),)


# ---------------------------------------------------------------- mail that is read meanwhile


def make_messages(tree: bytes, *folders: bytes) -> dict[bytes, bytes]:
    """Messages in `new`, each with its content, and one in `cur` that is there already."""
    messages = {}
    for folder in folders:
        for name in (b"new", b"cur", b"tmp"):
            os.makedirs(tree + folder + b"/" + name)
        for number in range(5):
            path = b"%s/new/17%02d.M1.host" % (folder, number)
            messages[path] = b"message %d" % number
            with open(tree + path, "wb") as stream:
                stream.write(messages[path])
        with open(tree + folder + b"/cur/1600.M9.host:2,S", "wb") as stream:
            stream.write(b"old")
    return messages


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("flags", [b":2,", b":2,S", b":2,FRS"])
def test_a_message_that_moves_to_cur_is_taken_under_the_name_that_was_listed(
    tree: bytes, digest: bool, flags: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_searches", walk._Searches())  # a process looks at so many names only
    messages = make_messages(tree, b"/Maildir", b"/Maildir/.Lists.debian")
    skipped: list[Skipped] = []
    found = {}
    for entry in scan(tree, ALL, skipped=skipped, digest=digest):
        found[entry.path] = entry
        if entry.path.endswith(b"/new"):  # the folder is listed after this
            continue
        if entry.path in messages:  # it is listed: now a reader moves the rest
            for path in [path for path in messages if path > entry.path and os.path.exists(tree + path)]:
                if path.startswith(entry.path.rpartition(b"/")[0]):
                    os.rename(tree + path, tree + path.replace(b"/new/", b"/cur/") + flags)
    assert not skipped
    assert messages.keys() <= found.keys()
    if digest:
        assert all(found[path].sha256 == hashlib.sha256(content).hexdigest() for path, content in messages.items())


def test_a_message_that_was_deleted_meanwhile_is_named_and_no_link_is_followed(tree: bytes) -> None:
    messages = make_messages(tree, b"/Maildir")
    os.rename(tree + b"/Maildir/cur", tree + b"/elsewhere")
    os.symlink(tree + b"/elsewhere", tree + b"/Maildir/cur")
    skipped: list[Skipped] = []
    last = max(messages)
    for entry in scan(tree, ALL, skipped=skipped):
        if entry.path == min(messages):
            os.rename(tree + last, tree + b"/elsewhere/" + last.rpartition(b"/")[2] + b":2,S")
    assert [item.item for item in skipped] == [last]


def test_a_file_that_grows_while_it_is_read_is_taken_up_to_the_length_that_it_had(tree: bytes) -> None:
    path = tree + b"/log"
    with open(path, "wb") as stream:
        stream.write(b"line\n" * 100_000)

    def grow() -> None:
        with open(path, "ab") as stream:
            stream.write(b"more\n")

    digest, status = digest_with_status(path, "sha256", check=grow)
    with open(path, "rb") as stream:
        content = stream.read()
    assert 500_000 <= status.st_size < len(content)
    assert digest == hashlib.sha256(content[: status.st_size]).hexdigest()


def test_a_file_that_is_written_anew_and_longer_each_time_is_an_error(tree: bytes) -> None:
    path, size = tree + b"/state", 100_000
    with open(path, "wb") as stream:
        stream.write(bytes(size))

    def change() -> None:
        nonlocal size
        size += 1
        with open(path, "wb") as stream:
            stream.write(os.urandom(size))

    with pytest.raises(ContentChanged):
        digest_with_status(path, "sha256", check=change)


def test_a_file_that_is_written_over_while_it_is_read_is_an_error(tree: bytes) -> None:
    path = tree + b"/state"
    with open(path, "wb") as stream:
        stream.write(bytes(100_000))

    def change() -> None:
        with open(path, "r+b") as stream:
            stream.write(os.urandom(8))

    with pytest.raises(ContentChanged):
        digest_with_status(path, "sha256", check=change)


SWAP = """
import os, sys
while True:
    os.rename(sys.argv[1] + "/own", sys.argv[1] + "/x")
    os.rename(sys.argv[1] + "/secret", sys.argv[1] + "/own")
    os.rename(sys.argv[1] + "/x", sys.argv[1] + "/secret")
"""


def test_entry_never_has_the_status_of_one_file_and_the_content_of_another(tree: bytes) -> None:
    """A user exchanges a file of root and one of their own while the scan runs."""
    files = {0: b"root's" * 20_000, 1500: b"the user's" * 20_000}
    for name, (owner, content) in zip((b"/secret", b"/own"), files.items(), strict=True):
        Path(os.fsdecode(tree + name)).write_bytes(content)
        os.setxattr(tree + name, b"user.owner", b"%d" % owner)
        os.chown(tree + name, owner, owner)
    wanted = {owner: (hashlib.sha256(content).hexdigest(), b"%d" % owner) for owner, content in files.items()}
    found: list[FileEntry] = []
    with subprocess.Popen([sys.executable, "-c", SWAP, os.fsdecode(tree)]) as swapper:
        try:
            for _ in range(100):
                skipped = SkippedItems()
                seen = [entry for entry in scan(tree, ALL, skipped=skipped, digest=True) if entry.kind == "file"]
                named = {item.item for item in skipped}
                found += (entry for entry in seen if entry.path not in named)
        finally:
            swapper.kill()
    facts = {(entry.uid, entry.sha256, dict(entry.xattrs or ()).get(b"user.owner")) for entry in found}
    assert facts == {(owner, *fact) for owner, fact in wanted.items()}


def test_a_barred_folder_is_left_out_under_a_path_that_nobody_listed(tmp_path: Path) -> None:
    (tmp_path / "srv/moved/inner").mkdir(parents=True)
    (tmp_path / "srv/moved/inner/volume").write_bytes(b"x")
    (tmp_path / "srv/stays").write_bytes(b"x")
    status = os.stat(tmp_path / "srv/moved")
    found = scan(os.fsencode(tmp_path), ALL, skipped=SkippedItems(), barred=frozenset({(status.st_dev, status.st_ino)}))
    assert [entry.path for entry in found] == [b"/", b"/srv", b"/srv/stays"]
