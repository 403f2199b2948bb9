"""What scripts of packages make during an installation, and what dpkg says of holds and of paths that it leaves out."""

import ast
import os
from pathlib import Path

from tests.boundary.test_unreadable import run_with_fault
from tklb.host.dpkg import list_absent_holds, read_excluded_paths
from tklb.host.registries.removed import read_removed
from tklb.host.registries.stat_overrides import read_stat_overrides
from tklb.host.script_traces import SeenPaths, describe_new, list_paths
from tklb.model.registries.decisions import RemovedEntry

BEFORE = """
from tklb.host.script_traces import list_paths
seen = list_paths({root!r})
print((sorted(seen.paths), sorted(seen.unread)))
"""
AFTER = """
from tklb.host.registries.removed import read_removed
from tklb.host.registries.stat_overrides import read_stat_overrides
from tklb.host.script_traces import SeenPaths, describe_new
print(describe_new({root!r}, SeenPaths(frozenset(), frozenset()), []))
"""

STATUS = """\
Package: pkg
Status: install ok installed
Version: 1
Architecture: all

Package: unwanted
Status: hold ok not-installed
Priority: optional
Section: misc

Package: past
Status: hold ok config-files
Architecture: all

Package: kept
Status: hold ok installed
Architecture: all
"""


def make_root(top: Path) -> bytes:
    for folder in ("etc/dpkg/dpkg.cfg.d", "var/lib/dpkg/info", "var/spool", "var/lib/data/deep"):
        (top / folder).mkdir(parents=True)
    (top / "var/lib/dpkg/status").write_text(STATUS)
    (top / "var/lib/dpkg/info/pkg.list").write_text("/.\n/etc\n/etc/pkg.conf\n/etc/was-there\n")
    (top / "etc/was-there").write_text("x")
    return os.fsencode(top)


def test_new_files_of_no_package_in_etc_and_new_folders_of_data_are_found(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    before = list_paths(root)
    for name in ("etc/pkg.conf", "etc/made.conf", "etc/the-owners", "etc/was-there", "var/lib/data/row", "etc/large"):
        (tmp_path / name).write_text("made\n")
    os.truncate(tmp_path / "etc/large", 2 << 20)
    os.symlink("made.conf", tmp_path / "etc/link")
    for name in ("etc/new.d", "var/spool/queue", "var/spool/queue/in", "var/lib/data/deep/deeper"):
        (tmp_path / name).mkdir()
    found = describe_new(root, before, [b"/etc/the-owners", b"/srv/other"])
    assert [(entry.path, entry.kind) for entry in found] == [
        (b"/etc/link", "link"), (b"/etc/made.conf", "file"), (b"/etc/new.d", "dir"),
        (b"/var/spool/queue", "dir"), (b"/var/spool/queue/in", "dir"),
    ]  # fmt: skip
    assert found[1].sha256 is not None
    assert describe_new(root, list_paths(root), []) == ()


def test_nothing_counts_as_made_where_a_folder_could_not_be_read_before(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    for name in ("etc/closed/in", "var/lib/data/of-the-owner", "etc/open"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("etc/closed/mine", "etc/closed/in/mine", "etc/secret"):
        (tmp_path / name).write_text("the owner's\n")
    for place in ("etc/closed", "var/lib/data"):
        before = SeenPaths(*map(frozenset, ast.literal_eval(run_with_fault(BEFORE, tmp_path, place))))
        assert before.unread == {f"/{place}".encode()}
        assert describe_new(root, before, []) == ()
    (tmp_path / "etc/open/made").write_text("made\n")
    assert [entry.path for entry in describe_new(root, before, [])] == [b"/etc/open/made"]


def test_a_file_that_cannot_be_read_is_not_known_as_made(tmp_path: Path) -> None:
    make_root(tmp_path)
    (tmp_path / "etc/made.conf").write_text("made\n")
    assert "made.conf" in run_with_fault(AFTER, tmp_path, "")
    assert "made.conf" not in run_with_fault(AFTER, tmp_path, "etc/made.conf", "read,pread64")


OVERRIDING = """
OWNER=root; PLACE=/etc/was-there
OWNER_TWO="daemon"
for path in "$PLACE_OF_ALL" /etc/was-there; do
    dpkg-statoverride --list "$path" >/dev/null || dpkg-statoverride --update --add "$OWNER_TWO" "adm" 0640 "$path"
done
for path in /etc/was-there /etc/gone; do
    dpkg-statoverride --list "$path" >/dev/null || dpkg-statoverride --update --add "$OWNER_TWO" "adm" 0640 "$path"
done
"""


def test_an_override_that_a_script_spells_with_variables_is_missed_where_its_file_is_there(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (tmp_path / "var/lib/dpkg/info/pkg.postinst").write_text(OVERRIDING)
    removed = read_removed(root, (), (), (), lambda _paths, _packages: frozenset())
    assert removed == (RemovedEntry("stat-overrides", b"", b"/etc/was-there"),)
    (tmp_path / "var/lib/dpkg/statoverride").write_text("daemon adm 640 /etc/was-there\n")
    (found,) = read_stat_overrides(root)
    assert found.packaged


def test_packages_that_are_held_and_not_installed_are_listed(tmp_path: Path) -> None:
    assert list_absent_holds(make_root(tmp_path)) == ("past", "unwanted")


def test_paths_that_dpkg_leaves_out_are_read_with_their_file(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    doc, man = "/usr/share/doc/*", "/usr/share/man/*"
    text = f"# small\npath-exclude={doc}\npath-include={doc}/copyright\npath-exclude {man}\n"
    (tmp_path / "etc/dpkg/dpkg.cfg.d/docker").write_text(text)
    (tmp_path / "etc/dpkg/dpkg.cfg").write_text("no-debsig\n#path-exclude=/x\n")
    assert read_excluded_paths(root) == {b"/etc/dpkg/dpkg.cfg.d/docker": (doc, man)}
