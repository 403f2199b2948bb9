"""The entry of a file whose content changed while it was backed up."""

from tklb.diff.attributes.xattrs import ACLS, CAPABILITY
from tklb.model.files import FileEntry
from tklb.restore.plan.files.above import FoldersAbove
from tklb.restore.plan.files.changed import describe_stored

TOOL = FileEntry(
    b"/srv/tool", "file", 0o6755, 7, 8, b"bob", b"staff", size=3, sha256="a" * 64,
    xattrs=((CAPABILITY, b"1"), (ACLS[0], b"2"), (b"user.note", b"3")),
)  # fmt: skip
STORED = "b" * 64


def test_content_that_changed_gets_no_set_id_bits_and_capabilities() -> None:
    found = describe_stored(TOOL, STORED, has_one_inode=True)
    assert (found.mode, found.uid, found.gid, found.sha256, found.size) == (0o755, 7, 8, STORED, None)
    assert found.xattrs == ((ACLS[0], b"2"), (b"user.note", b"3"))


def test_content_that_may_be_of_another_file_is_for_root_alone() -> None:
    found = describe_stored(TOOL, STORED, has_one_inode=False)
    assert (found.mode, found.uid, found.gid, found.uname, found.gname) == (0o600, 0, 0, b"root", b"root")
    assert (found.sha256, found.xattrs) == (STORED, ())


def test_entry_of_another_kind_stays() -> None:
    link = FileEntry(b"/srv/link", "link", link=b"x")
    assert describe_stored(link, STORED, has_one_inode=True) == link


class Nothing:
    """A machine that has only the given paths."""

    def __init__(self, *paths: bytes) -> None:
        self.paths = paths

    def entry(self, path: bytes) -> FileEntry | None:
        return FileEntry(path, "dir", uid=1500 if b"hers" in path else 0) if path in self.paths else None


def test_folders_above_a_wanted_file_come_where_they_are_absent() -> None:
    above = FoldersAbove(Nothing(b"/srv"))  # type: ignore[arg-type]
    for path in (b"/srv", b"/srv/a", b"/srv/a-b", b"/srv/a/b", b"/srv/a/b/c"):
        assert above.select(FileEntry(path, "dir"), is_wanted=False) == ()

    def select(path: bytes) -> list[bytes]:
        return [entry.path for entry in above.select(FileEntry(path, "file"), is_wanted=True)]

    assert select(b"/srv/a/b/file") == [b"/srv/a", b"/srv/a/b", b"/srv/a/b/file"]
    assert select(b"/srv/a/b/file2") == [b"/srv/a/b/file2"]
    assert select(b"/srv/a/b/c/file") == [b"/srv/a/b/c", b"/srv/a/b/c/file"]


def test_folder_of_root_above_a_wanted_file_comes_where_it_is_another_users() -> None:
    above = FoldersAbove(Nothing(b"/hers", b"/hers/too"))  # type: ignore[arg-type]
    for path, owner in ((b"/hers", 1000), (b"/hers/too", 0)):
        above.select(FileEntry(path, "dir", uid=owner), is_wanted=False)
    wanted = above.select(FileEntry(b"/hers/too/file", "file"), is_wanted=True)
    assert [entry.path for entry in wanted] == [b"/hers/too", b"/hers/too/file"]
