"""A dead server comes back: from a bucket or an SSH server, by an address and a passphrase, or by stock tools alone.

And what happens on the way there: uploads that are killed, state that is torn, disks that are not plugged in. Takes the
lab, rclone's S3 server, OpenSSH's sshd and Debian's duplicity. Touches clones.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.journey.taken_backup import (
    KILLED,
    NOTES,
    SCOPE,
    TARGET,
    Running,
    Told,
    change_something,
    check_replacement,
    decoded,
    differences,
    done,
    facts_of,
    left_overs,
    note_facts,
    processes,
    refused,
    server_a,
    server_b,
    snapshots,
    soon,
    tklb,
    untouched,
)
from tests.journey.test_stock_recovery import contents, install_duplicity
from tests.lab import fresh_server, s3, sshd
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import ENVIRONMENT, Box
from tests.lab.checker import Facts, record
from tests.lab.fault_proxy import FaultProxy
from tests.lab.fixture_fs import FixtureFs
from tests.lab.roots import layer
from tests.lab.soak import SOAK, some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PASSPHRASE = b"as long as it is not written on the sheet\n"
TOML = "/etc/tklb/tklb.toml"
OF_B = ("/root/.ssh", "/root/.ssh/id_ed25519", "/root/.ssh/known_hosts")


def secret_file(machine: Box, path: str, content: bytes) -> str:
    FixtureFs(machine.root).file(path.encode(), content, 0o600)
    return path


def credentials(service: s3.Service) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": service.access_key, "AWS_SECRET_ACCESS_KEY": service.secret_key}


def said(machine: Box, env: dict[str, str], *words: str, status: int = 0) -> Told:
    """What a command says that has credentials; it must end with `status`."""
    told = tklb(machine, *words, env=env)
    assert told.status == status, (words, told)
    return told


def move_to(a: Box, address: str, env: dict[str, str]) -> None:
    """Give A a distant target, small volumes, and its key a passphrase."""
    given = secret_file(a, "/root/passphrase", PASSPHRASE)
    said(a, env, "init", "--force", "--target", address)
    said(a, env, "key", "passphrase", "--passphrase-file", given)
    os.unlink(a.root / given[1:])
    for line in ("volume_megabytes = 1", "uploads = 2"):
        a.run(["sed", "-i", f"s/^#* *{line.split()[0]} *=.*/{line}/", TOML])
        if line not in (a.root / TOML[1:]).read_text():
            a.run(["sed", "-i", rf"s/^\[backup\]/&\n{line}/", TOML])
        assert line in (a.root / TOML[1:]).read_text()


def check_like(b: Box, wanted: Facts) -> None:
    """B has what A had, but for what stays with a machine."""
    found = {path: fact for path, fact in record(b.root, SCOPE).items() if path in wanted or path.startswith("/srv/")}
    assert differences(found, wanted, *fresh_server.identity(), *OF_B) == []


def comes_back(b: Appliance, address: str, env: dict[str, str], wanted: Facts) -> None:
    """B is fresh, and knows an address and a passphrase. It becomes A, and goes on where A ended."""
    given = ("--passphrase-file", secret_file(b, "/var/cache/passphrase", PASSPHRASE))
    wrong = ("--passphrase-file", secret_file(b, "/var/cache/wrong", b"as long as it is\n"))
    with untouched(b, *NOTES, "/var/lib/tklb**"):
        assert tklb(b, "restore", "--target", address, *wrong, "--yes", env=env).status == 40
    said(b, env, "restore", "--target", address, *given, "--yes")
    check_like(b, wanted)
    said(b, env, "init", "--force", "--target", address)
    shown = said(b, env, "key", "show", "--json").value
    assert (shown["has_passphrase"], shown["away"]) == (True, True)
    change_something(b)
    assert said(b, env, "backup", "--json").value["kind"] == "incremental"
    assert said(b, env, "backup", "--json").value["kind"] == "none"
    assert [one["kind"] for one in said(b, env, "list", "--json").value] == ["full", "incremental"]
    assert said(b, env, "status", "--json").value["state"] == "ok"


# ---------------------------------------------------------------- an address and a passphrase


def test_a_dead_server_comes_back_from_a_bucket_by_address_and_passphrase(a: Appliance, tmp_path: Path) -> None:
    with s3.serve_in(a, tmp_path) as service:
        move_to(a, service.address("backups", "web1"), credentials(service))
        said(a, credentials(service), "backup")
    wanted = record(a.root, SCOPE)
    assert (tmp_path / "backups/web1/key.asc").is_file()
    with server_b() as b, s3.serve_in(b, tmp_path) as service:
        shutil.rmtree(b.root / "mnt")
        comes_back(b, service.address("backups", "web1"), credentials(service), wanted)


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_distant.py restores from an SSH server, too")
def test_a_dead_server_comes_back_from_an_ssh_server_by_address_and_passphrase(a: Appliance, tmp_path: Path) -> None:
    with sshd.Sshd(tmp_path / "sshd", box=a) as server:
        server.let_in(a)
        move_to(a, server.address(tmp_path / "backups"), {})
        said(a, {}, "backup")
    wanted = record(a.root, SCOPE)
    with server_b() as b, sshd.Sshd(tmp_path / "sshd", box=b) as server:
        shutil.rmtree(b.root / "mnt")
        server.let_in(b)
        comes_back(b, server.address(tmp_path / "backups"), {}, wanted)


# ---------------------------------------------------------------- a sheet of paper and stock tools

AWS = """#!/bin/sh
PYTHONPATH=/mnt/site exec python3 -m awscli "$@"
"""


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_key_trip.py follows a sheet to a folder")
def test_a_stranger_follows_the_sheet_with_stock_tools_alone(a: Appliance, tmp_path: Path) -> None:
    site = Path(sys.prefix, f"lib/python3.{sys.version_info.minor}/site-packages")
    bare = layer("stock duplicity core", stack("core", "rescue"), install_duplicity, "rescue")
    with s3.serve_in(a, tmp_path) as service:
        move_to(a, service.address("backups", "web1"), credentials(service))
        said(a, credentials(service), "backup")
        said(a, {}, "key", "kit", "/mnt/sheet")
        sheet, wanted = (a.root / "mnt/sheet.txt").read_text(), contents(a.root)
        with clone("core", hostname="rescue", layers=[bare], binds={site: "/mnt/site"}) as rescue:
            fs = FixtureFs(rescue.root)
            fs.file(b"/usr/local/bin/aws", AWS.encode(), 0o755)
            # the passphrase that a person types
            typed = f"batch\npinentry-mode loopback\npassphrase-file {secret_file(rescue, '/root/typed', PASSPHRASE)}\n"
            fs.file(b"/root/.gnupg/gpg.conf", typed.encode(), 0o600)
            fs.folder(b"/root/.gnupg", 0o700)
            fs.file(b"/root/new/key.asc", block_of(sheet), 0o600)
            follow(rescue, a, commands_of(sheet), credentials(service))
            found = contents(rescue.root / "root/new/files")
    assert len(wanted) > 60
    assert {path for path, fact in wanted.items() if found.get(path, {}).get("content") != fact["content"]} == set()


def block_of(sheet: str) -> bytes:
    """The key as somebody types it: from BEGIN to END."""
    lines = [line.strip() for line in sheet.splitlines()]
    first, last = lines.index("-----BEGIN PGP MESSAGE-----"), lines.index("-----END PGP MESSAGE-----")
    return ("\n".join(lines[first : last + 1]) + "\n").encode()


def commands_of(sheet: str) -> list[str]:
    """The indented lines of the third step, but for what was installed before, and what is for other shards."""
    step = sheet[sheet.index("3. Or without tklb") :]
    lines = [line.strip() for line in step.splitlines() if line.startswith("     ") and line.isascii()]
    return [line for line in lines if not line.startswith("apt-get install") and "--file-prefix" not in line]


def follow(rescue: Box, near: Box, commands: list[str], env: dict[str, str]) -> None:
    """Type the commands on a machine that reaches the storage, which is in the network of another."""
    assert len(commands) == 4, commands
    inside = ["nsenter", f"--target={rescue.pid}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wdns=/root/new"]
    shell = [*inside, f"--net=/proc/{near.pid}/ns/net", "--", "sh", "-euc", "\n".join(commands)]
    done = subprocess.run(
        shell, env={**ENVIRONMENT, "AWS_DEFAULT_REGION": "us-east-1", **env}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- a new key


@pytest.mark.skipif(
    not SOAK, reason="a soak alone: TKLB_SOAK=1; test_key_trip.py restores after a change of the key, too"
)
def test_after_a_change_of_the_key_the_new_one_alone_restores_all_and_the_old_one_what_is_old(
    a: Appliance, b: Appliance
) -> None:
    first, second = snapshots(a)
    done(a, "key", "rotate")
    assert done(a, "backup", "--json").value["kind"] == "full"
    note_facts(a)
    assert done(a, "backup", "--json").value["kind"] == "none"
    assert not (a.root / "mnt/target/key.asc").exists()
    done(a, "key", "escrow", "--no-passphrase", "/mnt/new-key")
    shutil.copytree(a.root / "mnt", b.root / "mnt", dirs_exist_ok=True)
    new, old = ("--target", TARGET, "--key", "/mnt/new-key"), ("--target", TARGET, "--key", "/mnt/key")
    with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**"):
        refused(b, 41, "KeyUnusable", "restore", *old, "--yes", says="give the newer key")
    for number, (key, snapshot) in enumerate(some(((new, first), (new, second), (old, second), (old, first)), 2)):
        done(b, "restore", snapshot, *key, "--into", f"/var/cache/look-{number}")
        assert same_content(b, f"var/cache/look-{number}", facts_of(b, snapshot))
    done(b, "restore", *new, "--yes")
    check_replacement(b)
    change_something(b)
    done(b, "init", "--force", "--target", TARGET)
    assert done(b, "backup", "--json").value["kind"] == "incremental"


def same_content(machine: Box, folder: str, wanted: Facts) -> bool:
    found = contents(machine.root / folder)
    return len(found) > 60 and all(
        fact["content"] == wanted[path]["content"]
        for path, fact in found.items()
        if path in wanted and not path.startswith("/etc/")
    )


# ---------------------------------------------------------------- uploads that are killed


@contextlib.contextmanager
def network_of(box: Box) -> Iterator[None]:
    """Sockets that are made in this block are in the box's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours, its = (os.open(f"/proc/{place}/ns/net", os.O_RDONLY) for place in ("thread-self", box.pid))
    try:
        assert libc.setns(its, 0) == 0
        yield
    finally:
        assert libc.setns(ours, 0) == 0
        os.close(ours)
        os.close(its)


@dataclass(frozen=True)
class Line:
    """A, and the line to its storage, on which every request is seen."""

    a: Appliance
    proxy: FaultProxy
    address: str
    env: dict[str, str]

    def puts(self) -> list[str]:
        """The volumes that were sent since it was last asked, each as often as it was."""
        paths = [one.path for one in list(self.proxy.seen) if one.method == "PUT" and "/volumes/" in one.path]
        return [path.partition("?")[0].rpartition("/")[2] for path in paths]

    def forget(self) -> None:
        self.proxy.break_at(None)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("buckets")
    with contextlib.ExitStack() as held:
        a, service = held.enter_context(server_a()), held.enter_context(s3.rclone(folder))
        with network_of(a):
            proxy = FaultProxy(service.port)
        held.enter_context(proxy)
        made = Line(a, proxy, f"s3+http://127.0.0.1:{proxy.port}/backups/web1", credentials(service))
        move_to(a, made.address, made.env)
        said(a, made.env, "backup")
        yield made


STATE, CACHE = "var/lib/tklb", "var/cache/tklb"


def tear(name: str) -> Callable[[Line], object]:
    """Half of a file, as a crash leaves it where nobody syncs."""

    def harm(line: Line) -> None:
        path = line.a.root / STATE / "pending" / name
        os.truncate(path, path.stat().st_size // 2)

    return harm


def source_changed(line: Line) -> None:
    FixtureFs(line.a.root).append(b"/srv/data/09", b"meanwhile\n")
    os.unlink(line.a.root / "srv/data/large-3")


def moved_elsewhere(line: Line) -> None:
    said(line.a, line.env, "init", "--force", "--target", f"{line.address}-{os.urandom(4).hex()}")


# What happens between the kill and the next run, and whether that can go on with the upload.
MEANWHILE: dict[str, tuple[Callable[[Line], object], bool]] = {
    "nothing": (lambda line: None, True),
    "the source changed": (source_changed, True),
    "what was confirmed is torn": (tear("confirmed"), True),
    "the record is torn": (tear("record"), False),
    "the address is torn": (tear("address"), False),
    "the stage is torn": (tear("stage/manifest.mtree"), False),
    "the spool is gone": (lambda line: shutil.rmtree(line.a.root / CACHE / "spool"), False),
    "the cache is gone": (lambda line: shutil.rmtree(line.a.root / CACHE), False),
    "all that is pending is gone": (lambda line: shutil.rmtree(line.a.root / STATE / "pending"), False),
    "the target is another": (moved_elsewhere, False),
}  # fmt: skip


@pytest.mark.parametrize("meanwhile", some(MEANWHILE, 10))  # test_upload.py tears and changes the rest
def test_a_killed_upload_costs_no_more_than_what_was_in_flight_and_is_never_taken_for_a_snapshot(
    line: Line, meanwhile: str
) -> None:
    harm, goes_on = MEANWHILE[meanwhile]
    a, env = line.a, line.env
    for number in range(8):
        FixtureFs(a.root).file(b"/srv/data/large-%d" % number, os.urandom(1_200_000), owner="worker")
    before = [one["snapshot"] for one in said(a, env, "list", "--json").value]
    confirmed = killed_amid(line)
    assert [one["snapshot"] for one in said(a, env, "list", "--json").value] == before
    harm(line)
    wanted = record(a.root, SCOPE)
    line.forget()
    assert said(a, env, "backup", "--json").value["kind"] == ("full" if "another" in meanwhile else "incremental")
    again = line.puts()
    assert len(again) == len(set(again)), again
    if goes_on:
        known = confirmed if "confirmed" not in meanwhile else confirmed[: len(confirmed) // 2]
        assert not set(again) & set(known)
        assert len(said(a, env, "list", "--json").value) == len(before) + 1 + (meanwhile == "the source changed")
    assert said(a, env, "backup", "--json").value["kind"] == "none"
    assert left_overs(a) == []
    found = said(a, env, "verify", "--json")
    assert not re.search("missing|damaged|truncated", found.stdout), found
    shutil.rmtree(a.root / "var/cache/look", ignore_errors=True)
    said(a, env, "restore", "latest", "--into", "/var/cache/look")
    assert differences(looked_at(a), wanted) == []


def killed_amid(line: Line) -> list[str]:
    """Run a backup, and kill it when it has sent some volumes; give those it noted as confirmed."""
    line.forget()
    noted = line.a.root / STATE / "pending/confirmed"

    def is_amid() -> bool:
        return noted.exists() and noted.read_text().count("\n") >= 3

    with Running(line.a, "backup", "--limit-rate", "3M", before=credentialed(line.env)) as run:
        assert run.when(is_amid, signal.SIGKILL).end().status == KILLED
    assert soon(lambda: processes(line.a) == [])
    confirmed = [words.split()[0] for words in noted.read_text().splitlines()]
    assert 3 <= len(confirmed) < 8
    return confirmed


def credentialed(env: dict[str, str]) -> tuple[str, ...]:
    """What a command is begun with, so that it has credentials."""
    return ("env", *(f"{name}={value}" for name, value in env.items()))


def looked_at(machine: Box) -> Facts:
    """What `--into` gave, owners by the machine's own names."""
    for book in ("passwd", "group"):
        shutil.copy(machine.root / "etc" / book, machine.root / "var/cache/look/etc" / book)
    return record(machine.root / "var/cache/look", SCOPE)


# ---------------------------------------------------------------- a disk that is not plugged in


def test_a_disk_that_is_not_plugged_in_is_30_and_its_mount_point_stays_empty(a: Appliance) -> None:
    a.run(["mkdir", "-p", "/mnt/disk", "/mnt/usb"])
    a.run(["mount", "--bind", "/mnt/disk", "/mnt/usb"])
    done(a, "init", "--force", "--target", "file:///mnt/usb/backups")
    done(a, "backup")
    a.run(["umount", "/mnt/usb"])
    change_something(a)
    with untouched(a, *NOTES):
        message = refused(a, 30, "TargetUnreachable", "backup", says="is its disk mounted?")
        failing = done(a, "status", "--json", status=30).value
    assert "file:///mnt/usb/backups" in message
    assert failing["state"] == "failing"
    assert os.listdir(a.root / "mnt/usb") == []
    a.run(["mount", "--bind", "/mnt/disk", "/mnt/usb"])
    assert done(a, "backup", "--json").value["kind"] == "incremental"
    assert done(a, "status", "--json").value["state"] == "ok"
    assert differences(decoded(a, "latest"), record(a.root, SCOPE)) == []
    a.run(["umount", "/mnt/usb"])
