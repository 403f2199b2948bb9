"""What is made anew on B from A's files, judged by Debian's own tools; which services are started or listed.

Takes the lab's machines; touches clones and folders of its own. A leaves out what its tools made, so B has to make it.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.lab.appliance import Appliance, clone, packages_layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
LOOK = ["tklb", "restore", "--json", "--dry-run"]
FROM_A = ["--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key"]
UNIT = """
[Unit]
Description=An application
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""
FILES = {
    "etc/ld.so.conf.d/own.conf": "/opt/own/lib\n",
    "etc/sysctl.d/own.conf": "net.ipv4.ip_forward = 1\n",
    "etc/tmpfiles.d/own.conf": "d /run/own 0750 root root\n",
    "etc/sysusers.d/own.conf": "u own-agent - 'An agent'\n",
    "usr/local/share/man/man1/owntool.1": ".TH OWNTOOL 1\n.SH NAME\nowntool \\- a tool of the owner\n",
    "etc/systemd/system/app.service": UNIT,
    "etc/systemd/system/off.service": UNIT,
    "etc/udev/rules.d/90-own.rules": "# nothing\n",
    "srv/mail/transport": "far.example relay:[10.9.9.9]\n",
    "etc/postfix/virtual": "me@shop.example root\n",
    "etc/aliases": "root: alice\nsales: alice\n",
}
MADE = ("-/etc/ssl/certs", "-/etc/postfix/*.db", "-/srv/mail/*.db", "-/etc/aliases.db", "-/etc/aliases.lmdb")


class Trip(NamedTuple):
    """B after the restore, the report and the exit status."""

    b: Appliance
    report: dict[str, Any]
    status: int


def live(a: Appliance) -> None:
    """Do what an administrator does on A, with the tools of Debian."""
    for name, text in FILES.items():
        (a.root / name).parent.mkdir(parents=True, exist_ok=True)
        (a.root / name).write_text(text)
    a.run(["sh", "-c", "mkdir -p /opt/own/lib && cp -L /usr/lib/*/libz.so.1 /opt/own/lib/"])
    with (a.root / "etc/locale.gen").open("a") as stream:
        stream.write("fi_FI.UTF-8 UTF-8\n")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=Own -days 3000 -keyout /root/ca.key -out"
    a.run([*make.split(), "/usr/local/share/ca-certificates/own.crt"])
    a.run(["postconf", "-e", "virtual_alias_maps=hash:/etc/postfix/virtual", "transport_maps=hash:/srv/mail/transport"])
    a.run(["systemctl", "enable", "app.service"])
    a.run(["systemctl", "disable", "atd.service"])
    (a.root / "etc/tklb/overrides").write_text("\n".join(MADE) + "\n")


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2))
def trip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    binds = {tmp_path_factory.mktemp("share"): SHARE}
    packages = packages_layer(request.param, "a", "postfix", "at")
    with clone(request.param, tklb=True, binds=binds, layers=[packages]) as a:
        live(a)
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
    with clone(request.param, hostname="b", tklb=True, binds=binds) as b:
        done = b.run(["tklb", "restore", "--json", "--yes", *FROM_A], check=False, timeout=600)
        yield Trip(b, json.loads(done.stdout), done.returncode)


def commands(plan: dict[str, Any]) -> list[str]:
    return [step["item"] for step in plan["steps"] if step["step"] == "run-command"]


def test_nothing_is_skipped(trip: Trip) -> None:
    assert (trip.report["skipped"], trip.status) == ([], 0)


def test_plan_shows_the_commands_between_files_and_services(trip: Trip) -> None:
    kinds = [step["step"] for step in trip.report["steps"]]
    first, last = kinds.index("run-command"), len(kinds) - 1 - kinds[::-1].index("run-command")
    assert set(kinds[first : last + 1]) == {"run-command"}
    assert "write-file" in kinds[:first]
    assert "restart-service" in kinds[last + 1 :]
    wanted = {"ldconfig", "locale-gen", "update-ca-certificates", "postmap", "sysctl", "systemd-tmpfiles"}
    assert wanted <= set(commands(trip.report))
    assert "systemctl daemon-reload" not in commands(trip.report)


def test_library_is_found(trip: Trip) -> None:
    assert "/opt/own/lib/libz.so.1" in trip.b.run(["ldconfig", "-p"]).stdout


def test_locale_is_there(trip: Trip) -> None:
    assert "fi_FI.utf8" in trip.b.run(["locale", "-a"]).stdout.split()


def test_authority_is_trusted(trip: Trip) -> None:
    certificate = "/usr/local/share/ca-certificates/own.crt"
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    trip.b.run(["openssl", "verify", "-no-CApath", "-CAfile", bundle, certificate])
    trip.b.run(["openssl", "verify", "-no-CAfile", "-CApath", "/etc/ssl/certs", certificate])


def test_maps_of_the_mail_server_answer(trip: Trip) -> None:
    for key, table, value in (
        ("me@shop.example", "hash:/etc/postfix/virtual", "root"),
        ("far.example", "hash:/srv/mail/transport", "relay:[10.9.9.9]"),
    ):
        assert trip.b.run(["postmap", "-q", key, table]).stdout.strip() == value
    database = trip.b.run(["postconf", "-hx", "alias_maps"]).stdout.split(",")[0].strip()
    assert trip.b.run(["postalias", "-q", "sales", database]).stdout.strip() == "alice"


def test_kernel_accounts_and_folders_are_set_up(trip: Trip) -> None:
    assert trip.b.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout == "1\n"
    assert trip.b.run(["getent", "passwd", "own-agent"]).stdout.startswith("own-agent:")
    assert trip.b.run(["stat", "--format=%a", "/run/own"]).stdout == "750\n"


def test_trigger_of_a_package_fires(trip: Trip) -> None:
    assert "dpkg-trigger man-db" in commands(trip.report)
    assert "a tool of the owner" in trip.b.run(["whatis", "owntool"]).stdout
    assert trip.b.run(["dpkg", "--audit"]).stdout == ""


def test_enabled_services_that_came_are_listed_where_no_init_system_runs(trip: Trip) -> None:
    (line,) = [line for line in trip.report["warnings"] if line.startswith("not started: ")]
    names = line.removeprefix("not started: ").partition(":")[0].split(", ")
    assert {"app.service", "postfix"} <= set(names)
    assert "off.service" not in names


def test_service_that_the_owner_disabled_is_off_in_every_runlevel(trip: Trip) -> None:
    assert trip.b.run(["dpkg-query", "-W", "-f", "${Status}", "at"]).stdout == "install ok installed"
    assert trip.b.run(["systemctl", "is-enabled", "atd.service"], check=False).stdout == "disabled\n"
    links = [path.name for level in "2345" for path in (trip.b.root / f"etc/rc{level}.d").glob("*atd")]
    assert links
    assert not [name for name in links if name.startswith("S")]
    assert not [line for line in trip.report["warnings"] if line.startswith("not started: ") and "atd" in line]


def test_second_restore_has_nothing_to_do(trip: Trip) -> None:
    assert json.loads(trip.b.run([*LOOK]).stdout)["steps"] == []


def test_command_that_was_left_over_runs_at_the_next_restore(trip: Trip) -> None:
    rest = {"name": "ldconfig", "argv": ["ldconfig"], "inputs": [], "takes_inputs": False, "seconds": 60}
    state = trip.b.root / "var/lib/tklb/remainder.json"
    state.write_text(json.dumps({"commands": [rest], "packages": [], "services": []}))
    (trip.b.root / "etc/ld.so.cache").unlink()
    assert commands(json.loads(trip.b.run([*LOOK]).stdout)) == ["ldconfig"]
    trip.b.run(["tklb", "restore", "--yes"])
    assert "/opt/own/lib/libz.so.1" in trip.b.run(["ldconfig", "-p"]).stdout
    assert not state.exists()
