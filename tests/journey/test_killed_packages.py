"""Restores killed while dpkg works: at each unpack, each configure, before, after, inside scripts. A repeat comes home.

Takes the lab's machines and an archive of packages whose scripts call a hook of ours; touches clones and folders of its
own. On the fresh machine the hook counts, and at the chosen event it kills: the whole machine, as a power loss does, or
only tklb, or only dpkg.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.boundary import repository
from tests.journey.taken_backup import soon
from tests.lab.appliance import Appliance, clone
from tests.lab.soak import SOAK

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
COUNT = 30 if SOAK else 3  # packages
NAMES = [f"part-{number}" for number in range(COUNT)]
RESTORE = ["tklb", "restore", "--json", "--yes", "--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key"]
HOOK = """#!/bin/sh
# counts events, and kills at the one that /mnt/kill-at names
[ -e /mnt/kill-at ] || exit 0
echo "$*" >>/mnt/events
read -r number whom </mnt/kill-at
[ "$(wc -l </mnt/events)" = "$number" ] || exit 0
case $whom in
all) kill -9 -1; sleep 5 ;;
tklb) kill -9 "$(cat /var/lib/tklb/lock)"; sleep 1 ;;
terminated) kill -15 "$(cat /var/lib/tklb/lock)"; sleep 2 ;;
dpkg) pkill -9 -x dpkg; sleep 0.2 ;;
esac
exit 0
"""
DPKG_DEB = '#!/bin/sh\n/mnt/hook dpkg-deb "$@"\nexec /usr/bin/dpkg-deb "$@"\n'
INVOKE = "pre-invoke=/mnt/hook before\npost-invoke=/mnt/hook after\n"
BESIDE = "etc/login.defs.dpkg-dist"  # of the fresh machine itself, beside a file that comes
EVENTS = 75  # about as many as there are in a soak
WHOM = ("all", "tklb", "dpkg", "terminated")
CASES = [(number, whom) for number in range(1, EVENTS) for whom in WHOM[: 4 if number % 3 == 0 else 3]]
SAMPLE = [(9, "dpkg")]  # in a script; test_faults.py kills all of a restore


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, and a snapshot of a machine that has its packages."""
    share = tmp_path_factory.mktemp("share")
    folder = share / "archive"
    folder.mkdir()
    for name in NAMES:
        files = {f"/etc/{name}.conf": "as shipped\n", f"/usr/share/watched/{name}": "x\n"}
        scripts = {when: f"[ ! -x /mnt/hook ] || /mnt/hook {when} {name}" for when in ("preinst", "postinst")}
        repository.deb(folder, name, files=files, conffiles=(f"/etc/{name}.conf",), scripts=scripts)
    watch = {"postinst": "[ ! -x /mnt/hook ] || /mnt/hook postinst watcher $1"}
    watcher = folder / "build/watcher-1/DEBIAN"
    watcher.mkdir(parents=True)
    (watcher / "triggers").write_text("interest /usr/share/watched\n")
    (folder / "build/watcher-1/DEBIAN/control").parent.chmod(0o755)
    _deb_with_triggers(folder, watch["postinst"])
    repository.index(folder)
    with clone("core", tklb=True, binds={share: SHARE}) as a:
        use_archive(a)
        a.run(["apt-get", "-q", "update"])
        a.run(["apt-get", "-qy", "install", *NAMES, "watcher"])
        (a.root / "etc/part-1.conf").write_text("the owner's\n")
        a.run(["rm", "/etc/part-2.conf"])
        (a.root / "srv/page").write_text("the owner's\n")
        (a.root / "etc/login.defs").write_text("UMASK 027\n")
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
    return share


def _deb_with_triggers(folder: Path, postinst: str) -> None:
    tree = folder / "build/watcher-1"
    control = tree / "DEBIAN"
    (control / "control").write_text(
        "Package: watcher\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: watcher\n"
    )
    (control / "postinst").write_text(f"#!/bin/sh\n{postinst}\n")
    (control / "postinst").chmod(0o755)
    (tree / "usr/share/watcher").mkdir(parents=True)
    (tree / "usr/share/watcher/README").write_text("x\n")
    made = folder / "watcher_1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, stdout=subprocess.DEVNULL)


def use_archive(machine: Appliance) -> None:
    (machine.root / "etc/apt/sources.list.d/own.list").write_text(f"deb [trusted=yes] file:{SHARE}/archive ./\n")
    (machine.root / "etc/apt/sources.list").write_text("")


def fresh(share: Path) -> Appliance:
    return clone("core", hostname="b", tklb=True, binds={share: SHARE})


def arm(b: Appliance, number: int, whom: str) -> None:
    for path, text in (("mnt/hook", HOOK), ("usr/local/bin/dpkg-deb", DPKG_DEB)):
        (b.root / path).write_text(text)
        (b.root / path).chmod(0o755)
    (b.root / "etc/dpkg/dpkg.cfg.d/hook").write_text(INVOKE)
    (b.root / "etc/apt/sources.list").write_text("")
    (b.root / "mnt/kill-at").write_text(f"{number} {whom}\n")
    (b.root / BESIDE).write_text("of this machine\n")


def events(b: Appliance) -> int:
    path = b.root / "mnt/events"
    return len(path.read_text().splitlines()) if path.exists() else 0


def check_home(b: Appliance, policy: bytes) -> None:
    """Judge by dpkg and by the files."""
    assert b.run(["dpkg", "--audit"]).stdout == ""
    found = b.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n", *NAMES, "watcher"]).stdout
    assert sorted(found.split("\n")[:-1]) == sorted(f"ii {name}" for name in (*NAMES, "watcher"))
    for name in NAMES:
        conf = b.root / f"etc/{name}.conf"
        wanted = {"part-1": "the owner's\n", "part-2": None}.get(name, "as shipped\n")
        assert (conf.read_text() if conf.exists() else None) == wanted, name
    assert (b.root / "srv/page").read_text() == "the owner's\n"
    assert [path for path in (b.root / "etc").rglob("*.dpkg-*") if path != b.root / BESIDE] == []
    assert (b.root / BESIDE).read_text() == "of this machine\n"
    assert (b.root / "usr/sbin/policy-rc.d").read_bytes() == policy
    assert not (b.root / "usr/sbin/policy-rc.d.tklb-kept").exists()
    assert (
        b.run(["dpkg", "-V", *NAMES, "watcher"], check=False).stdout.replace("??5??????", "").split()
        in (
            ["c", "/etc/part-1.conf", "missing", "c", "/etc/part-2.conf"],
            ["missing", "c", "/etc/part-2.conf", "c", "/etc/part-1.conf"],
        )
        or COUNT < 3
    )


def restore_after_kill(b: Appliance, number: int, whom: str) -> dict[str, Any] | None:
    """Kill a restore at an event and repeat it once; None where the restore had ended before."""
    arm(b, number, whom)
    first = b.run(RESTORE, check=False)
    is_killed = events(b) >= number
    (b.root / "mnt/kill-at").unlink()
    if not is_killed:
        assert first.returncode == 0, first
        return None
    if whom != "dpkg" and first.returncode != 0:
        told = b.run(["tklb", "status", "--json"], check=False)
        assert told.returncode != 0
        assert "interrupted" in told.stdout, told
    again = b.run(RESTORE, check=False)
    assert again.returncode in (0, 3), again
    report: dict[str, Any] = json.loads(again.stdout)
    return report


@pytest.mark.parametrize(("number", "whom"), CASES if SOAK else SAMPLE)
def test_a_restore_killed_in_the_middle_of_packages_comes_home_by_one_repeat(
    share: Path, number: int, whom: str
) -> None:
    with fresh(share) as b:
        policy = (b.root / "usr/sbin/policy-rc.d").read_bytes()
        if restore_after_kill(b, number, whom) is None:
            pytest.skip("the restore ends before this event")
        assert soon(lambda: b.run(["pgrep", "-x", "apt-get|dpkg"], check=False).stdout == "")
        check_home(b, policy)
        assert json.loads(b.run([*RESTORE, "--dry-run"]).stdout)["steps"] == []
        assert json.loads(b.run(["tklb", "status", "--json"], check=False).stdout)["problems"] == []


def test_a_file_that_came_before_its_package_was_configured_has_nothing_beside_it(share: Path) -> None:
    """As if dpkg had died again and again in a restore whose files came."""
    with fresh(share) as b:
        policy = (b.root / "usr/sbin/policy-rc.d").read_bytes()
        (b.root / "etc/apt/sources.list").write_text("")
        (b.root / BESIDE).write_text("of this machine\n")
        b.run(["dpkg", "--unpack", f"{SHARE}/archive/part-1_1_all.deb"])
        (b.root / "etc/part-1.conf").write_text("the owner's\n")
        report = json.loads(b.run(RESTORE).stdout)
        assert report["skipped"] == []
        check_home(b, policy)
