"""A whole restore of files and accounts, from one real tree to another: scan, stage, plan, apply. Needs root."""

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.boundary.test_apply_file import ACL, CHOWN_CAPABILITY, acl
from tklb.databases.load import DatabaseLoader
from tklb.diff.attributes.xattrs import ACLS, CAPABILITY
from tklb.diff.files import compare
from tklb.diff.rules import Rule, Rules
from tklb.errors import NoSpace
from tklb.host.accounts import read_accounts
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.scan import scan
from tklb.model.files import Change, FileEntry
from tklb.model.plan import Plan
from tklb.model.report import Report
from tklb.model.snapshot_metadata import MachineFacts, SnapshotMetadata
from tklb.restore.apply import Executor, apply_plan
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import CurrentMachine, SnapshotContents
from tklb.restore.plan.plan import make_plan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MACHINE = MachineFacts("a", "id", "debian-12", "x86_64", "debian-12-core")
ACCOUNT_FILES = (b"passwd", b"group", b"passwd-", b"group-", b".pwd.lock")
RULES = Rules([Rule(True, b"/"), *(Rule(False, b"/etc/" + name) for name in ACCOUNT_FILES)])
IDS_THERE = {"root": 0, "alice": 104, "bob": 105, "carol": 106, "dave": 1000}
IDS_HERE = {"root": 0, "alice": 105, "bob": 106, "carol": 104, "eve": 1000}


@dataclass
class Story:
    """Two machines of one install state, and a stage between them."""

    base: Path
    there: Path
    here: Path
    stage: Path

    def saved(self) -> SnapshotContents:
        """Back `there` up as the engine does: contents only, no links, attributes or holes."""
        changes = list(compare(look(self.base), look(self.there)))
        manifest = [change.now for change in changes if change.now]
        for entry in manifest:
            if entry.kind == "file":
                target = os.fsencode(self.stage) + entry.path
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(os.fsencode(self.there) + entry.path, target)
        deleted = tuple(change.path for change in changes if change.change is Change.DELETED)
        accounts = read_accounts(os.fsencode(self.there))
        contents = SnapshotMetadata(MACHINE, deleted, self.hard_links(), accounts=accounts)
        return SnapshotContents("20260101T000000Z", contents, lambda: iter(manifest))

    def hard_links(self) -> tuple[tuple[bytes, ...], ...]:
        groups: dict[tuple[int | None, int | None], list[bytes]] = {}
        for entry in look(self.there):
            if entry.kind != "dir" and (entry.nlink or 1) > 1:
                groups.setdefault((entry.dev, entry.ino), []).append(entry.path)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def plan(self, saved: SnapshotContents) -> Plan:
        root = os.fsencode(self.here)
        with LiveFiles(root, follows_root_links=True) as files:
            return make_plan(
                saved, CurrentMachine(MACHINE, read_accounts(root), (), files), RestoreFilter(own=(b"/var/lib/tklb",))
            )

    def restore(self, saved: SnapshotContents) -> Report:
        return self.apply(self.plan(saved), saved)

    def apply(self, plan: Plan, saved: SnapshotContents) -> Report:
        def quiet(*_: object) -> None: ...

        means = Executor([self.stage], DatabaseLoader(lambda engine: None, {}), quiet, root=os.fsencode(self.here))
        return apply_plan(plan, saved, means, lambda: self.plan(saved))


def look(root: Path) -> list[FileEntry]:
    skipped: list[object] = []
    entries = list(scan(os.fsencode(root), RULES, skipped=skipped, digest=True))
    assert not skipped
    return entries


def install(root: Path, ids: dict[str, int]) -> None:
    for folder in ("etc", "usr/bin", "srv/www/old/deep", "var/spool"):
        (root / folder).mkdir(parents=True)
    for name in ("etc/conf", "usr/bin/tool", "srv/www/index", "srv/www/old/deep/page", "srv/www/kind", "etc/gone"):
        (root / name).write_text(f"default of {name}\n")
    (root / "srv/www/pages").mkdir()
    (root / "srv/www/pages/one").write_text("1")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_500_000_000_000_000_000))
    write_accounts(root, ids)


def write_accounts(root: Path, ids: dict[str, int]) -> None:
    passwd = "".join(f"{name}:x:{number}:{number}::/home/{name}:/bin/sh\n" for name, number in ids.items())
    (root / "etc/passwd").write_text(passwd)
    (root / "etc/group").write_text("".join(f"{name}:x:{number}:\n" for name, number in ids.items()))


def live_in(root: Path) -> None:
    """Everything that is hard, once."""
    for name, number in IDS_THERE.items():
        place = root / "srv" / name
        place.mkdir()
        (place / "file").write_text(name)
        os.chown(place / "file", number, number)
        os.chown(place, number, 0)
        rights = acl((1, 6, -1), (2, 7, number or 77), (4, 4, -1), (8, 5, number or 77), (16, 7, -1), (32, 0, -1))
        os.setxattr(place / "file", ACLS[0], rights)
        os.setxattr(place, ACLS[1], ACL)
    odd = os.fsencode(root) + b"/srv/new\nline\\ tab\t* \xff\xfe"
    with open(odd, "wb") as stream:
        stream.write(b"odd")
    os.utime(odd, ns=(0, -86_400_000_000_001))
    (root / "etc/conf").write_text("edited\n")
    (root / "etc/gone").unlink()
    shutil.rmtree(root / "srv/www/old")
    (root / "srv/www/kind").unlink()
    (root / "srv/www/kind").mkdir()
    (root / "srv/www/kind/inside").write_text("was a file")
    shutil.rmtree(root / "srv/www/pages")
    (root / "srv/www/pages").write_text("was a folder")
    os.chmod(root / "usr/bin/tool", 0o4755)
    (root / "srv/able").write_bytes(b"ELF")
    os.chown(root / "srv/able", 104, 105)
    os.chmod(root / "srv/able", 0o2750)
    os.setxattr(root / "srv/able", CAPABILITY, CHOWN_CAPABILITY)
    with open(root / "srv/sparse", "wb") as stream:
        stream.write(b"start")
        stream.truncate(5_000_000)
    os.link(root / "srv/able", root / "srv/www/able too")
    os.link(root / "srv/www/index", root / "srv/index")
    os.mkfifo(root / "srv/pipe")
    os.mknod(root / "srv/null", 0o20666, os.makedev(1, 3))
    os.symlink(b"\xff/nowhere", root / "srv/dangling")
    os.chown(root / "srv/dangling", 106, 1000, follow_symlinks=False)
    os.setxattr(root / "srv/able", "user.note", b"\0\1")
    os.link(root / "srv/dangling", root / "srv/dangling too", follow_symlinks=False)
    os.link(root / "srv/pipe", root / "srv/pipe too")
    (root / "srv/www/kind").chmod(0o500)
    os.utime(root / "srv/www/kind", ns=(0, 1_400_000_000_000_000_007))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    places = Story(*(tmp_path / name for name in ("base", "there", "here", "stage")))
    install(places.base, IDS_HERE)
    install(places.there, IDS_THERE)
    install(places.here, IDS_HERE)
    live_in(places.there)
    places.stage.mkdir(mode=0o700)
    return places


def delta(base: Path, now: Path) -> dict[bytes, object]:
    """What differs, owners by name, with nothing in it that a machine has for itself."""
    seen: dict[bytes, object] = {}
    for change in compare(look(base), look(now)):
        entry = change.now
        if entry is None:
            seen[change.path + b" deleted"] = True
            continue
        xattrs = tuple(item for item in entry.xattrs or () if item[0] not in ACLS)
        kept = entry._replace(uid=0, gid=0, ino=None, dev=None, ctime_ns=None, xattrs=xattrs)
        seen[change.path] = (change.change, kept)
    return seen


def test_the_delta_here_is_the_delta_there_and_a_second_restore_is_empty(story: Story) -> None:
    saved = story.saved()
    report = story.restore(saved)
    assert report.skipped == ()
    assert delta(story.base, story.here) == delta(story.base, story.there)
    assert story.plan(saved).is_empty
    assert not story.plan(saved).folder_times


def test_ids_follow_their_names_through_a_cycle_in_files_and_acls(story: Story) -> None:
    story.restore(story.saved())
    lines = read_accounts(os.fsencode(story.here)).passwd
    uids = {line.split(b":")[0].decode(): int(line.split(b":")[2]) for line in lines}
    assert uids.items() >= IDS_HERE.items()
    for name in ("alice", "bob", "carol", "dave"):
        path = story.here / "srv" / name / "file"
        assert (path.stat().st_uid, path.stat().st_gid) == (uids[name], uids[name])
        said = subprocess.run(["getfacl", "-n", "--absolute-names", path], check=True, capture_output=True, text=True)
        assert f"user:{uids[name]}:rwx" in said.stdout


def test_hard_links_are_links_again_also_to_the_install_state(story: Story) -> None:
    story.restore(story.saved())
    assert (story.here / "srv/able").samefile(story.here / "srv/www/able too")
    assert (story.here / "srv/index").samefile(story.here / "srv/www/index")
    for name in ("srv/dangling", "srv/pipe"):
        assert (story.here / name).lstat().st_ino == (story.here / f"{name} too").lstat().st_ino


def test_what_this_machine_has_of_its_own_stays(story: Story) -> None:
    (story.here / "srv/www/old/mine").write_text("precious")
    (story.here / "etc/own").write_text("own")
    report = story.restore(story.saved())
    assert (story.here / "srv/www/old/mine").read_text() == "precious"
    assert (story.here / "etc/own").read_text() == "own"
    assert any("/srv/www/old" in line for line in report.warnings)


def test_a_restore_that_was_cut_short_anywhere_is_completed_by_the_next(story: Story) -> None:
    saved = story.saved()
    plan = story.plan(saved)
    kept = story.stage.with_name("kept")
    shutil.copytree(story.stage, kept)
    for number in range(0, len(plan.steps), 5):
        part = replace(plan, steps=plan.steps[:number], folder_times=())
        story.apply(part, saved)
        shutil.rmtree(story.stage)
        shutil.copytree(kept, story.stage)
        plan = story.plan(saved)
    story.restore(saved)
    assert delta(story.base, story.here) == delta(story.base, story.there)


@pytest.mark.parametrize(
    ("options", "files"), [("size=1m", {"large": 3_000_000}), ("nr_inodes=9", dict.fromkeys("abcdefghij", 1))]
)
def test_no_room_is_found_out_before_anything_is_touched(story: Story, options: str, files: dict[str, int]) -> None:
    for root in (story.there, story.here):
        (root / "mnt").mkdir()
    for name, size in files.items():
        (story.there / "mnt" / name).write_bytes(b"x" * size)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", story.here / "mnt"], check=True)
    try:
        before = look(story.here)
        with pytest.raises(NoSpace) as caught:
            story.restore(story.saved())
        assert "/mnt" in str(caught.value)
        assert look(story.here) == before
    finally:
        subprocess.run(["umount", story.here / "mnt"], check=True)


def test_what_cannot_be_done_is_named_once_and_the_rest_is_done(story: Story) -> None:
    saved = story.saved()
    place = story.here / "srv/www/kind"
    subprocess.run(["mount", "--bind", place, place], check=True)
    try:
        report = story.restore(saved)
    finally:
        subprocess.run(["umount", place], check=True)
    items = [skipped.item for skipped in report.skipped]
    assert b"/srv/www/kind" in items
    assert len(report.skipped) == len(set(report.skipped))
    assert (story.here / "srv/alice/file").exists()
    assert not story.restore(saved).skipped
