"""What an owner switched off stays off, also where the packages come anew; judged by the tools that switch.

Takes the lab's machines of two releases and Debian's archive; touches clones and folders of its own.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone, prepare
from tests.lab.box import Box
from tests.lab.roots import digest_of, layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
WAY = ("--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key")
UNIT = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides:          {name}
# Required-Start:    $remote_fs
# Required-Stop:     $remote_fs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
### END INIT INFO
[ "$1" != status ] || exit 3
"""
POSTINST = """set -e
if deb-systemd-helper --quiet was-enabled {name}.service; then
    deb-systemd-helper enable {name}.service >/dev/null
else
    deb-systemd-helper update-state {name}.service >/dev/null
fi
update-rc.d {name} defaults >/dev/null
ucf /usr/share/{name}/{name}.conf /etc/{name}.conf
ucfr {name} /etc/{name}.conf
"""
SERVICES = ("svc", "other", "stays")
OFF = {
    "module autoindex": ("a2query", "-m", "autoindex"),
    "module status": ("a2query", "-m", "status"),
    "site": ("a2query", "-s", "000-default"),
    "conf": ("a2query", "-c", "serve-cgi-bin"),
    "module rewrite": ("a2query", "-m", "rewrite"),
    "units": ("systemctl", "is-enabled", *SERVICES, "cron"),
    "runlevels": ("find", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc0.d", "-name", "[SK]*"),
    "php": ("php", "-r", "var_dump(extension_loaded('ctype'), extension_loaded('posix'));"),
    "authority": ("ls", "/etc/ssl/certs/ACCVRAIZ1.pem"),
    "bundle": ("sha256sum", "/etc/ssl/certs/ca-certificates.crt"),
    "files": ("ls", "/etc/svc.conf", "/etc/other.conf", "/etc/cron.daily/dpkg"),
}  # fmt: skip


class Trip(NamedTuple):
    """What the tools said on A and on B, both deltas, and the restore."""

    before: dict[str, tuple[int, str]]
    after: dict[str, tuple[int, str]]
    deltas: tuple[set[tuple[str, str]], set[tuple[str, str]]]
    report: dict[str, Any]
    again: dict[str, Any]


def ask(machine: Appliance) -> dict[str, tuple[int, str]]:
    said = {name: machine.run(list(words), check=False) for name, words in OFF.items()}
    return {name: (one.returncode, "\n".join(sorted(one.stdout.splitlines()))) for name, one in said.items()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    share = tmp_path_factory.mktemp("share")
    folder = share / "archive"
    folder.mkdir()
    for name in SERVICES:
        files = {
            f"/lib/systemd/system/{name}.service": UNIT,
            f"/etc/init.d/{name}": SCRIPT.format(name=name),
            f"/usr/share/{name}/{name}.conf": "shipped\n",
        }
        conffiles = (f"/etc/init.d/{name}",)
        repository.deb(folder, name, files=files, conffiles=conffiles, scripts={"postinst": POSTINST.format(name=name)})
    repository.index(folder)
    return share


def use_source(machine: Box) -> None:
    (machine.root / "etc/apt/sources.list.d/own.list").write_text(f"deb [trusted=yes] file:{SHARE}/archive ./\n")
    machine.run(["apt-get", "-q", "update"])


def switch_off(a: Box, archive: Path) -> None:
    shutil.copytree(archive, a.root / SHARE[1:])  # in a machine, the folder that it shares lies over it
    use_source(a)
    a.run(["apt-get", "-qy", "--no-install-recommends", "install", "apache2", "php-cli", *SERVICES], timeout=900)
    a.run(["a2dismod", "-f", "autoindex", "status"])
    a.run(["a2dissite", "000-default"])
    a.run(["a2disconf", "serve-cgi-bin"])
    a.run(["a2enmod", "rewrite"])
    a.run(["phpdismod", "ctype"])
    a.run(["systemctl", "disable", "svc"])
    a.run(["update-rc.d", "other", "disable"])
    a.run(["systemctl", "mask", "cron"])
    a.run(["sed", "-i", "s,^mozilla/ACCVRAIZ1,!mozilla/ACCVRAIZ1,", "/etc/ca-certificates.conf"])
    a.run(["update-ca-certificates"])
    a.run(["rm", "/etc/svc.conf", "/etc/cron.daily/dpkg"])


def read_json(machine: Appliance, *words: str) -> dict[str, Any]:
    done = machine.run(["tklb", *words, "--json"], timeout=900)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def changes(machine: Appliance) -> set[tuple[str, str]]:
    return {(one["path"], one["change"]) for one in read_json(machine, "delta")["files"]}


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2))
def trip(request: pytest.FixtureRequest, archive: Path) -> Iterator[Trip]:
    binds, key = {archive: SHARE}, f"off {digest_of(__file__, str(repository.__file__))}"
    made = layer(key, prepare(request.param, "a"), lambda box: switch_off(box, archive), "a")
    with clone(request.param, tklb=True, binds=binds, layers=[made]) as a:
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
        before, of_a = ask(a), changes(a)
    with clone(request.param, hostname="b", tklb=True, binds=binds) as b:
        use_source(b)
        report = read_json(b, "restore", "--yes", *WAY)
        again = read_json(b, "restore", "--dry-run", *WAY)
        yield Trip(before, ask(b), (of_a, changes(b)), report, again)
    shutil.rmtree(archive / "target")
    (archive / "key").unlink()


@pytest.mark.parametrize("name", OFF)
def test_it_is_off_on_b_as_it_was_on_a(trip: Trip, name: str) -> None:
    assert trip.after[name] == trip.before[name]


def test_it_was_off_on_a_in_the_words_of_its_tool(trip: Trip) -> None:
    offered = {name: status for name, (status, _) in trip.before.items()}
    assert offered["module autoindex"] == offered["module status"] == offered["site"] == offered["conf"] == 32
    assert "site administrator" in trip.before["module rewrite"][1]
    assert trip.before["units"][1].split() == ["disabled", "disabled", "enabled", "masked"]
    assert offered["authority"] != 0
    assert "bool(false)" in trip.before["php"][1]


def test_both_deltas_are_equal_and_nothing_is_left_to_do(trip: Trip) -> None:
    assert trip.report["skipped"] == []
    assert trip.again["steps"] == []
    of_a, of_b = trip.deltas
    own = ("/etc/resolv.conf", "/etc/fstab", "/etc/machine-id", "/etc/network/interfaces")
    assert {one for one in of_a ^ of_b if one[0] not in own} == set()
    deleted = {path for path, change in of_a if change == "deleted"}
    assert {
        "/etc/apache2/mods-enabled/autoindex.load", "/etc/apache2/mods-enabled/autoindex.conf",
        "/etc/apache2/sites-enabled/000-default.conf", "/etc/apache2/conf-enabled/serve-cgi-bin.conf",
        "/etc/systemd/system/multi-user.target.wants/svc.service", "/etc/rc2.d/S01other", "/etc/svc.conf",
        "/etc/cron.daily/dpkg", "/etc/ssl/certs/ACCVRAIZ1.pem",
    } <= deleted  # fmt: skip
