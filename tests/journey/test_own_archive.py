"""A machine that lives on an archive of its own: suites, versions, architectures, replacements, and what apt leans on.

The archive is served over https on a name of /etc/hosts, with a certificate of a private CA, through a mirror list.
Takes the lab's machines; touches clones and folders of its own.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
SERVE = f"""
import functools, http.server, ssl
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="{SHARE}/archive")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("{SHARE}/server.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
SOURCE = """\
Types: deb
URIs: mirror+file:/etc/apt/mirrors/own.list
Suites: jammy jammy-backports
Components: main
Trusted: yes
"""
ONLY_ON_A = 'test "$(hostname)" = a || { echo "this is not a" >&2; exit 9; }'
RIVALS = "Provides: {0}\nConflicts: {0}\nReplaces: {0}\n"
ON_OFFER = (("kept", "1"), ("kept", "2"), ("fresh", "1"), ("both", "1"), ("dpkg", "0.1"), ("lib-dep", "1"))
ON_A = ("kept=1", "fresh=2~bpo12+1", "both=2~bpo12+1", "needs-file", "swap-new", "bad-new", "no-editor", "alien:i386")


class Trip(NamedTuple):
    """The machine after the restore, its plan and report, and the exit status."""

    b: Appliance
    plan: dict[str, Any]
    report: dict[str, Any]
    status: int


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("share")
    pool, new = top / "archive" / "pool", top / "archive" / "new"
    for folder in (pool, new, top / "loose"):
        folder.mkdir(parents=True)
    for name, version in ON_OFFER:
        repository.deb(pool, name, version)
    for name in ("fresh", "both"):
        repository.deb(new, name, "2~bpo12+1")
    for name in ("swap-old", "swap-new"):
        repository.deb(pool, name, fields=RIVALS.format("swap-agent"))
    repository.deb(pool, "bad-old", fields=RIVALS.format("bad-agent"))
    repository.deb(pool, "bad-new", fields=RIVALS.format("bad-agent"), scripts={"preinst": ONLY_ON_A})
    repository.deb(pool, "no-editor", fields="Provides: editor\n", scripts={"preinst": ONLY_ON_A})
    repository.deb(pool, "needs-file", scripts={"postinst": "test -e /srv/licence"})
    repository.deb(pool, "alien", architecture="i386")
    repository.deb(top / "loose", "from-file", fields="Depends: lib-dep\n")
    repository.suite(top / "archive", "jammy", pool, ("amd64", "i386"))
    repository.suite(top / "archive", "jammy-backports", new, ("amd64", "i386"), automatic=False)
    certify(top)
    return top


def certify(folder: Path) -> None:
    """Make a private CA and a certificate of the archive's name."""
    (folder / "name").write_text("subjectAltName=DNS:archive.internal\n")
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout"]
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-days", "3650", "-extfile", "name"]
    for command in (
        ["req", "-x509", "-days", "3650", "-subj", "/CN=Own CA", *key, "ca.key", "-out", "ca.crt"],
        ["req", "-subj", "/CN=archive.internal", *key, "own.key", "-out", "own.csr"],
        ["x509", "-req", "-in", "own.csr", *signed, "-out", "own.crt"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    (folder / "server.pem").write_text((folder / "own.key").read_text() + (folder / "own.crt").read_text())


def live(a: Appliance) -> None:
    """What the owner of A did."""
    etc = a.root / "etc"
    (etc / "apt/sources.list").write_text("")
    (etc / "apt/mirrors").mkdir()
    (etc / "apt/mirrors/own.list").write_text("https://archive.internal:8443/\n")
    (etc / "apt/sources.list.d/own.sources").write_text(SOURCE)
    (etc / "hosts").write_text((etc / "hosts").read_text() + "127.0.0.1 archive.internal\n")
    (a.root / "usr/local/share/ca-certificates/own.crt").write_bytes(
        a.run(["cat", f"{SHARE}/ca.crt"], text=False).stdout
    )
    (a.root / "srv/licence").write_text("paid\n")
    a.run(["update-ca-certificates"])
    a.run(["dpkg", "--add-architecture", "i386"])
    a.run(["apt-get", "-q", "update"])
    a.run(["apt-get", "-qy", "install", *ON_A, f"{SHARE}/loose/from-file_1_all.deb"])
    a.run(["apt-mark", "hold", "kept"])
    a.run(["apt-get", "-qy", "remove", "vim-tiny", "bzip2"])
    a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
    a.run(["tklb", "backup"])
    a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])


@pytest.fixture(scope="module")
def trip(share: Path) -> Iterator[Trip]:
    binds = {share: SHARE}
    with clone("core", tklb=True, binds=binds) as a, repository.serve(a, SERVE, 8443):
        live(a)
    with clone("core", hostname="b", tklb=True, binds=binds) as b, repository.serve(b, SERVE, 8443):
        (b.root / "etc/apt/sources.list").write_text("")
        for name in ("swap-old", "bad-old", "both"):
            b.run(["dpkg", "-i", f"{SHARE}/archive/pool/{name}_1_all.deb"])
        way = ["tklb", "restore", "--json", "--remove-packages", "--target", f"file://{SHARE}/target"]
        way += ["--key", f"{SHARE}/key"]
        plan = json.loads(b.run([*way, "--dry-run"], check=False).stdout)
        done = b.run([*way, "--yes"], check=False)
        yield Trip(b, plan, json.loads(done.stdout), done.returncode)


def versions(machine: Appliance, *names: str) -> dict[str, str]:
    form = "${binary:Package}\t${db:Status-Abbrev}\t${Version}\n"
    shown = machine.run(["dpkg-query", "-W", "-f", form, *names], check=False).stdout
    rows = [line.split("\t") for line in shown.splitlines()]
    return {name: version for name, state, version in rows if state[1:2] == "i"}


def skipped(report: dict[str, Any]) -> dict[str, str]:
    """The reasons by package: one for its installation, and one for its mark."""
    reasons: dict[str, str] = {}
    for item in report["skipped"]:
        name = item["item"].removeprefix("package:")
        reasons[name] = f"{reasons.get(name, '')}; {item['reason']}"
    return reasons


def test_only_what_cannot_come_is_named(trip: Trip) -> None:
    assert trip.status == 3
    assert skipped(trip.report).keys() == {"bad-new", "no-editor", "vim-tiny"}
    assert "exit status 9" in skipped(trip.report)["bad-new"]
    assert "no-editor" in skipped(trip.report)["vim-tiny"]


def test_suite_of_another_name_a_mirror_list_a_private_ca_and_hosts_bring_the_archive_back(trip: Trip) -> None:
    trip.b.run(["apt-get", "-q", "update"])
    assert (trip.b.root / "etc/apt/sources.list.d/own.sources").read_text() == SOURCE
    assert "mirrors/own.list jammy/main" in trip.b.run(["apt-cache", "policy", "fresh"]).stdout
    first = [step["item"] for step in trip.plan["steps"] if step["step"] == "add-source"]
    assert first[-1] == "/etc/apt/sources.list.d/own.sources"


def test_versions_are_those_of_a(trip: Trip) -> None:
    found = versions(trip.b, "kept", "fresh", "both")
    assert found == {"kept": "1", "fresh": "2~bpo12+1", "both": "2~bpo12+1"}
    assert trip.b.run(["apt-mark", "showhold"]).stdout.split() == ["kept"]


def test_foreign_architecture_comes_with_its_package(trip: Trip) -> None:
    assert trip.b.run(["dpkg", "--print-foreign-architectures"]).stdout.split() == ["i386"]
    assert versions(trip.b, "alien:i386") == {"alien:i386": "1"}


def test_replacement_is_one_step_that_the_plan_shows(trip: Trip) -> None:
    swaps = {step["item"]: step["detail"] for step in trip.plan["steps"] if step["step"] == "replace-package"}
    assert swaps == {"swap-new": "replace swap-old by swap-new", "bad-new": "replace bad-old by bad-new"}
    assert versions(trip.b, "swap-old", "swap-new").keys() == {"swap-new"}


def test_replaced_package_is_still_there_if_its_replacement_fails(trip: Trip) -> None:
    assert versions(trip.b, "bad-old", "bad-new").keys() == {"bad-old"}


def test_removal_waits_for_the_package_that_takes_its_place(trip: Trip) -> None:
    assert versions(trip.b, "vim-tiny", "bzip2").keys() == {"vim-tiny"}


def test_package_that_needs_a_file_of_the_owner_comes_after_the_files(trip: Trip) -> None:
    assert versions(trip.b, "needs-file") == {"needs-file": "1"}
    assert trip.b.run(["dpkg", "--audit"]).stdout == ""


def test_local_package_comes_with_its_needs_marked_as_there(trip: Trip) -> None:
    assert versions(trip.b, "from-file", "lib-dep") == {"from-file": "1", "lib-dep": "1"}
    assert "lib-dep" in trip.b.run(["apt-mark", "showauto"]).stdout.split()


def test_second_restore_repeats_only_what_failed(trip: Trip) -> None:
    plan = json.loads(trip.b.run(["tklb", "restore", "--json", "--dry-run"], check=False).stdout)
    steps = {(step["step"], step["item"]) for step in plan["steps"] if step["step"] != "restart-service"}
    assert steps <= {
        ("replace-package", "bad-new"), ("install-package", "no-editor"),
        ("mark-package", "bad-new"), ("mark-package", "no-editor"),
    }  # fmt: skip
