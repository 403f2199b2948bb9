"""What an owner keeps outside the usual folders travels, or is reported: from A to a fresh B, judged by stock tools."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.appliance import Appliance, clone, packages_layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
KEY, TARGET = f"{SHARE}/key", f"file://{SHARE}/target"
FILES = {
    "/data/home/h/notes": "h's\n",
    "/data/www/index.html": "<p>site\n",
    "/data/conf/site.conf": "server {}\n",
    "/mnt/big/deep/file": "deep\n",
    "/var/git/repo/HEAD": "ref: refs/heads/main\n",
    "/var/lib/private/app/state": "of a dynamic user\n",
    "/var/lib/systemd/linger/h": "",
    "/var/lib/gems/3.1.0/gems/own/lib.rb": "puts 1\n",
    "/var/lib/bind/db.example": "example. IN SOA\n",
    "/var/cache/bind/db.inner": "inner. IN SOA\n",
    "/var/lib/samba/private/passdb.tdb": "TDB\n",
    "/var/lib/docker/volumes/shop/_data/orders": "1\n",
    "/var/lib/docker/swarm/state.json": "{}\n",
    "/var/lib/dhcp/dhcpd.leases": "lease 10.0.0.9 {}\n",
    "/var/lib/misc/dnsmasq.leases": "1 aa 10.0.0.9\n",
    "/var/lib/AccountsService/users/h": "[User]\n",
    "/var/lib/cloud/scripts/per-boot/own": "#!/bin/sh\n",
    "/var/lib/mysql-files/export.csv": "1\n",
    "/var/opt/shop/state": "shop\n",
    "/usr/lib/systemd/system/own.service": "[Service]\nExecStart=/bin/true\n",
    "/usr/lib/systemd/user/own.service": "[Service]\nExecStart=/bin/true\n",
    "/usr/lib/udev/rules.d/99-own.rules": "# own\n",
    "/usr/lib/sysusers.d/own.conf": "u own -\n",
    "/usr/lib/python3/dist-packages/own/__init__.py": "x = 1\n",
    "/usr/share/model/weights": "a home in /usr\n",
    "/usr/bin/own-tool": "#!/bin/sh\n",
}
LINKS = {
    "/var/www/site": "/data/www",
    "/etc/own.d/site.conf": "/data/conf/site.conf",
    "/srv/deep": "/disk/deep",
    "/disk": "/mnt/big",
    "/var/lib/app": "private/app",
}
LEFT_OUT = {
    "/var/lib/docker/overlay2/l1/diff/bin": "layer\n",
    "/var/lib/dhcp/dhclient.eth0.leases": "lease {}\n",
    "/var/lib/bluetooth/AA/settings": "\n",
    "/var/lib/php/sessions/sess_1": "x\n",
    "/var/cache/apt/own": "x\n",
}
QUOTA = "/var/mail/aquota.user"
OUTSIDE = {
    "/pool/photo.raw": "owner's\n",
    "/var/backups/mysql/dump.sql": "owner's\n",
    "/mnt/other/file": "owner's\n",
    "/usr-own": "owner's\n",
    QUOTA: "limits by number\n",
}
# packaged, and deleted by the owner
DELETED = ("/usr/share/doc/cron/copyright", "/usr/share/bash-completion/completions/apt", "/usr/bin/wall")
EXCLUDED = "/usr/share/doc/curl/copyright"  # by the configuration of dpkg
EDITED = "/usr/lib/systemd/system/cron.service"


class Trip(NamedTuple):
    a: Appliance
    b: Appliance
    delta_a: dict[str, str]
    delta_b: dict[str, str]
    scope: dict[str, Any]
    backup: dict[str, Any]
    statuses: dict[str, int]
    status: dict[str, Any]
    outside: list[str]


def plant(machine: Appliance, files: dict[str, str], links: dict[str, str]) -> None:
    for path, text in files.items():
        place = machine.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    for path, target in links.items():
        place = machine.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def live(machine: Appliance) -> None:
    """Do what administrators do, by their own tools."""
    machine.run(["install", "-d", "/data/home"])
    machine.run(["useradd", "--create-home", "--home-dir", "/data/home/h", "h"])
    machine.run(["useradd", "--system", "--home-dir", "/var/git", "--create-home", "git"])
    machine.run(["useradd", "--system", "--home-dir", "/usr/share/model", "model"])
    machine.run(["useradd", "--system", "--home-dir", "/usr/bin", "careless"])
    plant(machine, FILES | LEFT_OUT | OUTSIDE, LINKS)
    machine.run(["chown", "-R", "h:h", "/data/home/h", "/pool"])
    machine.run(["chown", "-R", "git:git", "/var/git"])
    machine.run(["chown", "-R", "61234:61234", "/var/lib/private/app"])
    with (machine.root / EDITED[1:]).open("a") as unit:
        unit.write("# edited in place\n")
    machine.run(["setcap", "cap_net_bind_service=ep", python(machine)])
    machine.run(["chmod", "u-s", "/usr/bin/chfn"])
    machine.run(["chown", "root:adm", "/usr/bin/curl"])
    machine.run(["chmod", "2750", "/usr/bin/curl"])
    delete_packaged(machine)
    machine.start("redis-server")
    machine.run(["redis-cli", "set", "colour", "blue"])
    machine.run(["redis-cli", "save"])
    machine.stop("redis-server")
    for folder in ("/srv/data", "/srv/again", "/srv/ram"):
        machine.run(["install", "-d", folder])
    machine.run(["mount", "--bind", "/srv/data", "/srv/again"])
    machine.run(["mount", "-t", "tmpfs", "tmpfs", "/srv/ram"])
    plant(machine, {"/srv/data/one": "once\n"}, {})
    machine.run(["sh", "-c", "echo gone > /srv/ram/file"])


def delete_packaged(machine: Appliance) -> None:
    plant(machine, {"/etc/dpkg/dpkg.cfg.d/small": "path-exclude=/usr/share/doc/curl/*\n"}, {})
    machine.run(["rm", *DELETED, EXCLUDED, managed(machine)])
    machine.run(["sh", "-c", "rm -r /usr/share/locale/*"])
    machine.run(["ln", "-sf", "more", "/usr/bin/whatis"])
    machine.run(["rm", "-r", "/usr/share/lintian"])
    machine.run(["ln", "-s", "/srv/data", "/usr/share/lintian"])
    machine.run(["touch", "-r", "/usr/bin/newgrp", "/usr/bin/newgrp"])  # overlayfs keeps flags of upper files only
    machine.run(["chattr", "+i", "/usr/bin/newgrp"])


def managed(machine: Appliance) -> str:
    return machine.run(["sh", "-c", "ls /usr/lib/python3.*/EXTERNALLY-MANAGED"]).stdout.strip()


def python(machine: Appliance) -> str:
    return machine.run(["readlink", "-f", "/usr/bin/python3"]).stdout.strip()


def told(machine: Appliance, *words: str) -> tuple[int, Any]:
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=600)
    assert done.returncode in (0, 3, 50), done.stdout + done.stderr  # 50: no server of databases runs
    return done.returncode, json.loads(done.stdout)


def changes(machine: Appliance) -> dict[str, str]:
    return {file["path"]: file["change"] for file in told(machine, "delta")[1]["files"]}


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2))
def trip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    binds = {tmp_path_factory.mktemp("share"): SHARE}
    packages = packages_layer(request.param, "a", "redis-server", "libcap2-bin")
    with (
        clone(request.param, tklb=True, binds=binds, layers=[packages]) as a,
        clone(request.param, hostname="b", tklb=True, binds=binds) as b,
    ):
        live(a)
        statuses = {}
        statuses["init"], made = told(a, "init", "--target", TARGET)
        statuses["scope"], scope = told(a, "scope")
        statuses["backup"], backup = told(a, "backup")
        statuses["status"], status = told(a, "status")
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        acknowledge(a, backup)
        statuses["after"], _ = told(a, "backup")
        delta_a = changes(a)
        b.run(["touch", "-r", "/usr/bin/newgrp", "/usr/bin/newgrp"])  # as on A
        statuses["restore"], restored = told(b, "restore", "--yes", "--target", TARGET, "--key", KEY)
        assert restored["skipped"] == []
        outside = [item["path"] for item in made["outside"]]
        yield Trip(a, b, delta_a, changes(b), scope, backup, statuses, status, outside)
        for machine in (a, b):
            machine.run(["chattr", "-i", "/usr/bin/newgrp"])


def acknowledge(machine: Appliance, backup: dict[str, Any]) -> None:
    """Take the half of what lies outside, and leave out the rest."""
    lines = [("" if at % 2 else "-") + item["path"] for at, item in enumerate(backup["outside"])]
    with (machine.root / "etc/tklb/overrides").open("a") as overrides:
        overrides.write("".join(f"{line}\n" for line in lines))


def test_every_file_of_the_owner_is_in_the_delta(trip: Trip) -> None:
    assert {path for path in (*FILES, *LINKS) if path not in trip.delta_a} == set()


def test_every_file_of_the_owner_comes_back(trip: Trip) -> None:
    lost = [path for path, text in FILES.items() if (trip.b.root / path[1:]).read_text() != text]
    lost += [path for path, target in LINKS.items() if os.readlink(trip.b.root / path[1:]) != target]
    assert lost == []


def test_what_the_table_leaves_out_stays(trip: Trip) -> None:
    assert [path for path in LEFT_OUT if path in trip.delta_a or (trip.b.root / path[1:]).exists()] == []


def test_data_of_a_server_that_was_installed_come_back(trip: Trip) -> None:
    trip.b.start("redis-server")
    assert trip.b.run(["redis-cli", "get", "colour"]).stdout == "blue\n"
    trip.b.stop("redis-server")


def test_accounts_have_their_homes(trip: Trip) -> None:
    for name in ("h", "git", "model"):
        home = trip.b.run(["getent", "passwd", name]).stdout.split(":")[5]
        assert trip.b.run(["stat", "--format=%U", home]).stdout.strip() in (name, "root")
    assert trip.b.run(["stat", "--format=%U", "/data/home/h/notes", "/var/git/repo"]).stdout == "h\ngit\n"


def test_a_folder_of_the_system_is_nobodys_home(trip: Trip) -> None:
    assert [path for path in trip.delta_a if path.startswith("/usr/bin/perl")] == []


def test_capabilities_set_id_bits_and_owners_of_packaged_files_come_back_without_their_content(trip: Trip) -> None:
    caps = trip.b.run(["getcap", python(trip.b)]).stdout
    assert "cap_net_bind_service=ep" in caps
    found = trip.b.run(["stat", "--format=%a %U:%G", "/usr/bin/chfn", "/usr/bin/curl"]).stdout.splitlines()
    assert found == ["755 root:root", "2750 root:adm"]
    assert {trip.delta_a[path] for path in ("/usr/bin/chfn", "/usr/bin/curl", python(trip.a))} == {"metadata"}
    assert trip.backup["files"]["bytes"] < 1_000_000


def test_a_packaged_unit_that_was_edited_in_place_comes_back(trip: Trip) -> None:
    assert trip.delta_a[EDITED] == "edited"
    assert (trip.b.root / EDITED[1:]).read_text().endswith("# edited in place\n")


def test_deleted_files_of_packages_stay_deleted_and_many_are_one_line(trip: Trip) -> None:
    gone = {*DELETED, managed_name(trip)}
    assert {path: trip.delta_a.get(path) for path in gone} == dict.fromkeys(gone, "deleted")
    assert [path for path in gone if (trip.b.root / path[1:]).exists()] == []
    assert EXCLUDED not in trip.delta_a
    lost = trip.b.run(["sh", "-c", "dpkg -V cron util-linux | grep -v ' c ' | cut -c13- | sort"]).stdout
    assert {"/usr/share/doc/cron/copyright", "/usr/bin/wall"} & {*lost.split()}
    text = [line for line in trip.a.run(["tklb", "delta"], check=False).stdout.splitlines() if "/locale" in line]
    assert len(text) == 1
    assert re.fullmatch(r"- /usr/share/locale/  [0-9,]+ files", text[0])
    assert not [*(trip.b.root / "usr/share/locale").glob("*/LC_MESSAGES/*.mo")]
    why = told(trip.a, "why", "/usr/bin/wall")[1]
    assert why["in_delta"], why


def test_a_missing_program_that_dpkg_needs_is_damage_and_no_deletion(trip: Trip) -> None:
    place = trip.a.root / "usr/bin/tac"
    content = place.read_bytes()
    place.unlink()
    preview = told(trip.a, "backup", "--dry-run")[1]
    place.write_bytes(content)
    place.chmod(0o755)
    assert [item["item"] for item in preview["skipped"]] == ["/usr/bin/tac"]
    assert preview["files"]["deleted"] == 0


def managed_name(trip: Trip) -> str:
    return next(path for path in trip.delta_a if path.endswith("/EXTERNALLY-MANAGED"))


def test_links_in_the_place_of_packaged_files_and_their_flags_come_back(trip: Trip) -> None:
    assert os.readlink(trip.b.root / "usr/bin/whatis") == "more"
    assert os.readlink(trip.b.root / "usr/share/lintian") == "/srv/data"
    assert "i" in trip.b.run(["lsattr", "/usr/bin/newgrp"]).stdout.split()[0]


def test_the_delta_of_the_restored_machine_is_that_of_the_backed_up_one(trip: Trip) -> None:
    mounted = {"/srv/again", "/srv/ram"}
    assert {path for path in trip.delta_a if path not in trip.delta_b} - mounted == set()


def test_a_folder_with_two_paths_is_taken_once_and_a_file_system_in_memory_not_at_all(trip: Trip) -> None:
    assert "/srv/data/one" in trip.delta_a
    assert "/srv/again/one" not in trip.delta_a
    assert "/srv/ram/file" not in trip.delta_a
    mounts = {mount["path"]: (mount["kind"], mount["taken"]) for mount in trip.backup["mounts"]}
    assert mounts["/srv/ram"] == ("tmpfs", False)
    assert not mounts["/srv/again"][1]


def test_an_override_takes_what_is_mounted_in_memory(trip: Trip) -> None:
    assert "/srv/ram/file" in {file["path"] for file in told(trip.a, "delta", "/srv/ram")[1]["files"]}


def test_what_lies_outside_is_reported_until_an_override_names_it(trip: Trip) -> None:
    outside = {item["path"]: item for item in trip.backup["outside"]}
    expected = {"/pool", "/mnt/other", "/usr-own", "/var/backups/mysql", "/var/lib/docker/overlay2", QUOTA}
    assert expected == outside.keys()
    assert (outside["/pool"]["owner"], outside["/pool"]["files"], outside["/pool"]["bytes"]) == ("h", 1, 8)
    assert set(trip.outside) == expected == {item["path"] for item in trip.status["outside"]}
    assert any("/pool" in problem for problem in trip.status["problems"])
    assert trip.statuses == {"init": 0, "scope": 3, "backup": 3, "status": 3, "after": 0, "restore": 0}


def test_scope_and_why_give_the_same_reasons(trip: Trip) -> None:
    taken = {item["path"]: (item["rule"], item["reason"]) for item in trip.scope["taken"]}
    assert taken["/data/home/h"] == ("found", "home of h")
    assert taken["/data/www"] == ("found", "target of the link /var/www/site")
    assert taken["/usr/bin/own-tool"] == ("found", "no package owns it")
    assert taken["/etc"][0] == "profile"
    left_out = {item["path"]: item["class"] for item in trip.scope["left_out"]}
    assert left_out["/var/lib/bluetooth"] == "machine"
    for path in ("/data/www/index.html", "/var/lib/bluetooth/AA/settings", "/srv/again/one"):
        why = told(trip.a, "why", path)[1]
        assert why["in_delta"] == (path in trip.delta_a), why
    assert "target of the link" in told(trip.a, "why", "/data/www/index.html")[1]["reasons"][0]


@pytest.mark.parametrize("name", some(["core", "trixie-core", "postgresql"], 2))
def test_on_a_clean_machine_nothing_lies_outside(name: str) -> None:
    with clone(name, tklb=True) as machine:
        assert told(machine, "init")[1]["outside"] == []
        status, scope = told(machine, "scope")
        assert (status, scope["outside"]) == (0, [])
        assert [path for path in changes(machine) if path.startswith(("/usr", "/var"))] == []


def test_the_target_is_not_stored_in_itself_by_any_path(tmp_path: Path) -> None:
    with clone("core", tklb=True) as machine:
        for folder in ("/srv/real", "/var/www", "/home/again"):
            machine.run(["install", "-d", folder])
        machine.run(["ln", "-s", "/srv/real", "/srv/alias"])
        machine.run(["mount", "--bind", "/srv/real", "/home/again"])
        told(machine, "init", "--target", "file:///srv/alias/target")
        told(machine, "backup")
        assert [path for path in changes(machine) if "target" in path] == []
        assert told(machine, "backup")[1]["kind"] == "none"
