"""Objects of this machine in the way of a restore, and its links, on real file systems. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boundary.test_apply_plan import Story, look, write_accounts
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.move_object import move_object
from tklb.host.files.openat import RootedTree
from tklb.model.plan import Plan
from tklb.model.report import Report

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Two machines of one install state, which has a folder of configuration and homes."""
    places = Story(*(tmp_path / name for name in ("base", "there", "here", "stage")))
    for root in (places.base, places.there, places.here):
        for folder in ("etc/app.d", "home", "srv/conf"):
            (root / folder).mkdir(parents=True)
        (root / "etc/app.d/default").write_text("as shipped\n")
        os.utime(root / "etc/app.d/default", ns=(0, 1_500_000_000_000_000_000))
        write_accounts(root, {"root": 0, "alice": 1000})
    places.stage.mkdir(mode=0o700)
    return places


def become_link(root: Path) -> None:
    """As `mv /etc/app.d /srv/conf; ln -s /srv/conf/app.d /etc/app.d` does."""
    shutil.move(root / "etc/app.d", root / "srv/conf/app.d")
    os.symlink("/srv/conf/app.d", root / "etc/app.d")


def become_file(root: Path) -> None:
    shutil.rmtree(root / "etc/app.d")
    (root / "etc/app.d").write_text("now a file\n")


def restore(story: Story) -> Report:
    """Restore, and check that the numbers add up."""
    report = story.restore(story.saved())
    assert report.step_count == len(report.done) + len(report.skipped)
    return report


def tree(root: Path) -> dict[bytes, tuple[object, ...]]:
    return {entry.path: (entry.kind, entry.mode, entry.uid, entry.sha256, entry.link) for entry in look(root)}


# ---------------------------------------------------------------- what moves aside


@pytest.mark.parametrize("become", [become_link, become_file])
def test_a_folder_with_own_files_moves_aside_and_the_next_restore_is_empty(
    story: Story, become: Callable[[Path], None]
) -> None:
    become(story.there)
    (story.here / "etc/app.d/mine").write_text("precious")
    saved = story.saved()
    report = story.restore(saved)
    assert report.skipped == ()
    kept = story.here / "etc/app.d.tklb-kept"
    assert (kept / "mine").read_text() == "precious"
    assert (kept / "default").read_text() == "as shipped\n"
    assert not (story.here / "etc/app.d").is_dir() or (story.here / "etc/app.d").is_symlink()
    assert story.plan(saved).is_empty


def test_a_folder_of_the_install_state_alone_leaves_nothing_beside_it(story: Story) -> None:
    become_file(story.there)
    assert restore(story).skipped == ()
    assert os.listdir(story.here / "etc") == os.listdir(story.there / "etc")


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "socket", "device"])
def test_every_kind_of_object_moves_aside_for_a_folder(story: Story, kind: str) -> None:
    (story.there / "srv/app").mkdir()
    (story.there / "srv/app/data").write_text("x")
    place = story.here / "srv/app"
    {
        "file": lambda: place.write_text("precious"),
        "link": lambda: place.symlink_to("/srv/elsewhere"),
        "fifo": lambda: os.mkfifo(place),
        "socket": lambda: os.mknod(place, 0o140600),
        "device": lambda: os.mknod(place, 0o20600, os.makedev(1, 3)),
    }[kind]()
    before = place.lstat()
    assert restore(story).skipped == ()
    assert (place / "data").read_text() == "x"
    assert place.with_name("app.tklb-kept").lstat().st_ino == before.st_ino


# ---------------------------------------------------------------- all or nothing


@pytest.mark.parametrize("own", [True, False])
def test_a_folder_comes_back_where_the_file_that_replaces_it_does_not_come(story: Story, own: bool) -> None:
    become_file(story.there)
    if own:
        (story.here / "etc/app.d/mine").write_text("precious")
    saved, before = story.saved(), tree(story.here)
    (story.stage / "etc/app.d").unlink()
    report = story.restore(saved)
    assert b"/etc/app.d" in {item.item for item in report.skipped}
    assert tree(story.here) == before
    assert not any(step.startswith("delete-file") for step in report.done)


def test_a_folder_that_cannot_be_moved_stays_whole(story: Story) -> None:
    become_link(story.there)
    (story.here / "etc/app.d/mine").write_text("precious")
    saved, before = story.saved(), tree(story.here)
    for options in (["--bind", story.here / "etc"], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *options, story.here / "etc"], check=True)
    try:
        report = story.restore(saved)
    finally:
        subprocess.run(["umount", story.here / "etc"], check=True)
    assert {item.item for item in report.skipped} == {b"/etc/app.d"}
    kept = {path: fact for path, fact in tree(story.here).items() if path.startswith(b"/etc")}
    assert kept == {path: fact for path, fact in before.items() if path.startswith(b"/etc")}
    assert report.step_count == len(story.plan(saved).steps) + len(report.done)


def test_a_name_that_somebody_took_after_the_plan_is_not_overwritten(story: Story) -> None:
    become_link(story.there)
    (story.here / "etc/app.d/mine").write_text("precious")
    saved = story.saved()
    plan = story.plan(saved)
    (story.here / "etc/app.d.tklb-kept").write_text("new")
    report = story.apply(plan, saved)
    assert (story.here / "etc/app.d.tklb-kept").read_text() == "new"
    assert (story.here / "etc/app.d/mine").read_text() == "precious"
    assert b"/etc/app.d" in {item.item for item in report.skipped}


# ---------------------------------------------------------------- mounts


@pytest.mark.parametrize("point", ["etc/app.d", "etc/app.d/deep/er"])
def test_a_mount_point_is_not_replaced_and_nothing_beside_it_is_deleted(story: Story, point: str) -> None:
    become_link(story.there)
    (story.here / point).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", story.here / point], check=True)
    try:
        (story.here / point / "mine").write_text("precious")
        before = set(tree(story.here))
        report = restore(story)
        assert before <= set(tree(story.here))
        assert [item.item for item in report.skipped] == [b"/etc/app.d"]
        assert "mount point" in report.skipped[0].reason
    finally:
        subprocess.run(["umount", story.here / point], check=True)


# ---------------------------------------------------------------- links of the administrator


def link_homes(here: Path, target: str = "/data/home") -> None:
    (here / "data/home").mkdir(parents=True)
    (here / "home").rmdir()
    os.symlink(target, here / "home")


def live_at_home(there: Path) -> None:
    (there / "home/alice").mkdir()
    (there / "home/alice/notes").write_text("x")
    os.chown(there / "home/alice", 1000, 1000)
    os.chown(there / "home/alice/notes", 1000, 1000)


@pytest.mark.parametrize("target", ["/data/home", "data/home", "./srv/../data/home"])
def test_a_link_of_root_is_followed_and_named(story: Story, target: str) -> None:
    live_at_home(story.there)
    link_homes(story.here, target)
    saved = story.saved()
    report = story.restore(saved)
    assert report.skipped == ()
    assert (story.here / "data/home/alice/notes").read_text() == "x"
    assert (story.here / "home").is_symlink()
    assert any("/home is a link to /data/home" in line for line in report.warnings)
    assert story.plan(saved).is_empty


def test_a_folder_with_new_metadata_does_not_replace_a_link_of_root(story: Story) -> None:
    live_at_home(story.there)
    os.chmod(story.there / "home", 0o711)
    link_homes(story.here)
    assert restore(story).skipped == ()
    assert (story.here / "home").is_symlink()


UNSAFE: dict[str, Callable[[Path], object]] = {
    "another owner of the link": lambda here: os.chown(here / "home", 1000, 1000, follow_symlinks=False),
    "another owner of the target": lambda here: os.chown(here / "data/home", 1000, 1000),
    "a target that the group may write": lambda here: os.chmod(here / "data/home", 0o775),
    "a folder above the target that all may write": lambda here: os.chmod(here / "data", 0o1777),
    "a folder above the target of somebody else": lambda here: os.chown(here / "data", 1000, 0),
    "a second link on the way": lambda here: (
        (here / "data").rename(here / "disk") and os.symlink("/disk", here / "data")
    ),
    "no target": lambda here: (here / "data/home").rmdir(),
    "a file as target": lambda here: (here / "data/home").rmdir() or (here / "data/home").write_text("x"),
    "a loop": lambda here: (here / "home").unlink() or os.symlink("/home", here / "home"),
    "the root": lambda here: (here / "home").unlink() or os.symlink("/", here / "home"),
    "a root that all may write": lambda here: os.chmod(here, 0o777),
}


@pytest.mark.parametrize("unsafe", UNSAFE.values(), ids=UNSAFE.keys())
def test_a_link_that_somebody_else_could_change_is_not_followed(story: Story, unsafe: Callable[[Path], object]) -> None:
    live_at_home(story.there)
    link_homes(story.here)
    unsafe(story.here)
    with LiveFiles(os.fsencode(story.here), follows_root_links=True) as files:
        assert files.find_safe_target(b"/home") is None
        assert files.entry(b"/home/alice") is None
    report = restore(story)
    assert {b"/home/alice", b"/home/alice/notes"} <= {item.item for item in report.skipped}
    assert not list(story.here.rglob("notes"))


def test_a_link_below_a_followed_one_is_not_followed(story: Story) -> None:
    live_at_home(story.there)
    link_homes(story.here)
    (story.here / "data/alice").mkdir()
    os.symlink("/data/alice", story.here / "data/home/alice")
    plan = plan_of(story)
    assert not [step for step in plan.steps if step.item == b"/home/alice/notes" and step.entry is None]
    restore(story)
    assert os.listdir(story.here / "data/alice") == []


def plan_of(story: Story) -> Plan:
    return story.plan(story.saved())


# ---------------------------------------------------------------- file systems that rename no folder


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A folder as containers have it: its contents lie in a lower layer."""
    for name in ("lower/app.d/deep/er", "upper", "work", "merged"):
        (tmp_path / name).mkdir(parents=True)
    lower = tmp_path / "lower/app.d"
    (lower / "deep/er/file").write_text("x")
    (lower / "link").symlink_to("/nowhere")
    os.chown(lower / "deep", 1000, 1000)
    os.chmod(lower / "deep", 0o2750)
    os.setxattr(lower / "deep", "user.note", b"1")
    layers = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, tmp_path / "merged"], check=True)
    yield tmp_path / "merged"
    subprocess.run(["umount", tmp_path / "merged"], check=True)


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in (top, *top.rglob("*")):
        status, xattrs = path.lstat(), [] if path.is_symlink() else os.listxattr(path)
        found[str(path.relative_to(top))] = (status.st_mode, status.st_uid, status.st_mtime_ns, tuple(xattrs))
    return found


def test_a_folder_of_a_lower_layer_moves_with_all_that_it_holds(overlay: Path) -> None:
    before = facts(overlay / "app.d")
    with pytest.raises(OSError, match="cross-device"):
        os.rename(overlay / "app.d", overlay / "renamed")
    with RootedTree(os.fsencode(overlay)) as tree:
        folder, name = tree.place(b"/app.d")
        move_object((folder, name), (folder, b"app.d.tklb-kept"))
    assert facts(overlay / "app.d.tklb-kept") == before
    assert not (overlay / "app.d").exists()


def test_a_folder_that_moves_in_part_only_moves_back(overlay: Path) -> None:
    before = facts(overlay / "app.d")
    (overlay / "app.d/deep/er/held").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", overlay / "app.d/deep/er/held"], check=True)
    try:
        with RootedTree(os.fsencode(overlay)) as tree:
            folder, name = tree.place(b"/app.d")
            with pytest.raises(OSError):
                move_object((folder, name), (folder, b"app.d.tklb-kept"))
    finally:
        subprocess.run(["umount", overlay / "app.d/deep/er/held"], check=True)
    assert {path: fact[:2] for path, fact in facts(overlay / "app.d").items() if path != "deep/er/held"} == {
        path: fact[:2] for path, fact in before.items()
    }
    assert not (overlay / "app.d.tklb-kept").exists()
