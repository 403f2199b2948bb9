"""The lab itself: clones are quick, apart from each other, whole as file systems, and leave nothing behind.

Takes the cached roots (builds them where missing); touches clones only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab import postgresql
from tests.lab.appliance import Appliance, clone
from tests.lab.box import Box, remove_stray_clones, stray_clones
from tests.lab.checker import compare, record
from tests.lab.databases import database_clone
from tests.lab.fixture_fs import FixtureFs
from tests.lab.fresh_server import make_fresh_server
from tests.lab.roots import SHORT, root
from tests.lab.soak import SOAK, some
from tests.lab.used_server import OWNERS_PAGE, bulk_files, touch_one_percent, used_server
from tests.lab.warm_tklb import can_fork

pytestmark = pytest.mark.lab
in_a_soak = pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; journeys do it all the time")
TOPS = ["/etc", "/home", "/root", "/srv", "/opt", "/usr/local", "/var/www", "/var/spool", "/var/mail", "/var/local"]


@pytest.fixture
def machine() -> Iterator[Appliance]:
    with clone("core", hostname="alone") as made:
        yield made


def left_behind(folder: Path) -> list[str]:
    """Mounts, processes and files that still mention a clone's folder."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if folder.name in line]
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return (
        mounts
        + [line for line in listing.splitlines() if folder.name in line]
        + list(map(str, folder.parent.glob(folder.name)))
    )


def soon(is_so: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something becomes so in that time: the kernel ends killed processes a moment later."""
    limit = time.monotonic() + seconds
    while not is_so() and time.monotonic() < limit:
        time.sleep(0.02)
    return is_so()


def test_a_clone_is_up_in_well_under_a_second() -> None:
    with clone("core"):
        pass
    started = time.monotonic()
    with clone("core"):
        assert time.monotonic() - started < 0.5


def test_clones_do_not_see_each_other_and_the_root_stays_clean() -> None:
    with clone("core", hostname="a") as a, clone("core", hostname="b") as b:
        a.run(["sh", "-c", "echo mine >/etc/only-a; rm /etc/profile"])
        assert a.run(["hostname"]).stdout == "a\n"
        assert b.run(["cat", "/etc/hostname"]).stdout == "b\n"
        assert not (b.root / "etc/only-a").exists()
        assert (b.root / "etc/profile").exists()
        assert a.run(["cat", "/etc/machine-id"]).stdout != b.run(["cat", "/etc/machine-id"]).stdout
        assert "sleep" not in b.run(["ps", "-e"]).stdout
    assert not (root("core") / "etc/only-a").exists()
    assert (root("core") / "etc/profile").exists()


def test_a_process_inside_sees_only_its_own_kind(machine: Appliance) -> None:
    def processes() -> list[str]:
        return machine.run(["ps", "-eo", "comm="]).stdout.split()

    with machine.popen(["sleep", "60"]):
        assert soon(lambda: "sleep" in processes())
        assert len(processes()) == 3
        machine.close()


def test_nothing_is_left_after_the_end(machine: Appliance) -> None:
    machine.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
    assert left_behind(machine.folder) != []
    machine.close()
    assert left_behind(machine.folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_test_process_is_killed(number: signal.Signals) -> None:
    program = """
        import time
        from tests.lab.appliance import clone
        with clone("core") as a:
            a.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
            print(a.folder, flush=True)
            time.sleep(60)
    """
    code = textwrap.dedent(program)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert left_behind(folder) != []
        process.send_signal(number)
    assert soon(lambda: left_behind(folder) == [])


def test_a_failing_command_shows_its_output_and_a_hanging_one_is_killed(machine: Appliance) -> None:
    with pytest.raises(AssertionError, match="No such file"):
        machine.run(["ls", "/nowhere"])
    assert machine.run(["ls", "/nowhere"], check=False).returncode == 2
    with pytest.raises(subprocess.TimeoutExpired):
        machine.run(["sleep", "60"], timeout=0.2)
    assert soon(lambda: "sleep" not in machine.run(["ps", "-e"]).stdout)


def test_commands_get_input_environment_and_folder(machine: Appliance) -> None:
    assert machine.run(["cat"], input="caf\udcff").stdout == "caf\udcff"
    assert machine.run(["cat"], input=b"\xff", text=False).stdout == b"\xff"
    assert machine.run(["sh", "-c", "echo $MOOD; pwd"], env={"MOOD": "fine"}, cwd="/srv").stdout == "fine\n/srv\n"
    assert "SSH_AUTH_SOCK" not in machine.run(["env"]).stdout


def test_a_shared_folder_is_seen_by_both(tmp_path: Path) -> None:
    with clone("core", hostname="a", binds={tmp_path: "/mnt/target"}) as a:
        a.run(["sh", "-c", "echo volume >/mnt/target/one"])
    with clone("core", hostname="b", binds={tmp_path: "/mnt/target"}) as b:
        assert b.run(["cat", "/mnt/target/one"]).stdout == "volume\n"


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_clone_is_a_whole_file_system(where: str) -> None:
    """xattrs, ACLs, capabilities, hard links kept on writing, holes, times, steady inode numbers, moving ctime."""
    with clone("core", on=where) as a:
        for step in ("setfattr -n user.x -v y /etc/profile", "setfacl -m u:daemon:r /etc/profile"):
            subprocess.run([*step.split()[:-1], a.root / "etc/profile"], check=True)
        assert os.getxattr(a.root / "etc/profile", "user.x") == b"y"
        before = os.stat(a.root / "etc/hosts.allow")
        os.chmod(a.root / "etc/hosts.allow", 0o600)
        after = os.stat(a.root / "etc/hosts.allow")
        assert before.st_ino == after.st_ino
        assert before.st_ctime_ns < after.st_ctime_ns
        assert before.st_mtime_ns == after.st_mtime_ns
        perl, versioned = a.root / "usr/bin/perl", next((a.root / "usr/bin").glob("perl5.*.*"))
        assert perl.samefile(versioned)
        os.chmod(perl, 0o700)
        assert versioned.stat().st_mode & 0o777 == 0o700
        assert perl.samefile(versioned)


@in_a_soak
def test_apt_installs_inside_and_starts_nothing() -> None:
    with clone("core") as a:
        a.run(["apt-get", "update"])
        a.run(["apt-get", "install", "-qy", "--no-install-recommends", "tree", "lighttpd"])
        assert a.run(["tree", "--version"]).returncode == 0
        assert "lighttpd" not in a.run(["ps", "-e"]).stdout


@in_a_soak
def test_two_web_servers_run_side_by_side_on_the_same_port() -> None:
    with clone("lamp", hostname="a") as a, clone("lamp", hostname="b") as b:
        (b.root / "var/www/html/index.html").write_text("b's page")
        for each in (a, b):
            each.start("apache2")
        assert b"Apache2 Debian Default Page" in a.http_get("/").body
        assert b.http_get("/").body == b"b's page"
        assert a.http_get("/blog/readme.html").status == 200
        assert a.http_get("/nowhere").status == 404
        a.stop("apache2")
        assert "apache2" not in a.run(["ps", "-e"]).stdout


@in_a_soak
def test_databases_start_and_answer() -> None:
    with clone("lamp") as a:
        a.start("mariadb")
        assert a.run(["mariadb", "-Nse", "select 6*7"]).stdout == "42\n"
    with clone("postgresql") as a:
        a.start("postgresql")
        assert a.run(["runuser", "-u", "postgres", "--", "psql", "-Atc", "select 6*7"]).stdout == "42\n"


def test_every_clean_root_is_without_identity_and_asks_for_no_repair() -> None:
    for name in some(SHORT, 3):
        clean = root(name)
        assert (clean / "etc/machine-id").read_bytes() == b""
        assert not (clean / "etc/hostname").exists()
        assert list((clean / "etc/ssh").glob("ssh_host_*")) == []
        assert not (clean / "usr/sbin/policy-rc.d").exists()
        with clone(name) as a:
            assert a.run(["dpkg", "--audit"]).stdout == ""
            assert {"python3", "gnupg", "openssh-server"} <= set(a.run(["apt-mark", "showmanual"]).stdout.split())


def test_tklb_is_there_on_request() -> None:
    with clone("core", tklb=True) as a:
        assert a.run(["tklb", "--version"]).stdout.startswith("tklb")


@pytest.mark.skipif(SOAK, reason="all commands start in a soak")
def test_forked_tklb_ends_and_tells_as_a_started_one() -> None:
    with clone("core", tklb=True) as a:
        for words in (["--version"], ["delta", "--json"], ["list"], ["no-such-command"], [b"why", b"/srv/\xff"]):
            command = ["tklb", *words]
            assert can_fork(a, command, {}, None)
            forked, started = (run(command, check=False, cwd="/srv") for run in (a.run, partial(Box.run, a)))
            assert vars(forked) == vars(started)
        a.run(["tklb", "init", "--target", "file:///srv/target"])
        with pytest.raises(subprocess.TimeoutExpired):
            a.run(["tklb", "backup"], timeout=0.3)
        assert a.run(["tklb", "--json", "backup"], check=False, env={"TKLB_STATE": "srv"}).returncode == 13
        a.run(["tklb", "backup"])
        assert len(json.loads(a.run(["tklb", "list", "--json"]).stdout)) == 1
        (a.root / "usr/local/bin/tklb").write_text("#!/bin/sh\necho mine\n")
        assert a.run(["tklb", "list"]).stdout == "mine\n"


def test_forked_tklb_finds_the_libraries_of_its_machine() -> None:
    with clone("core", tklb=True) as other:
        other.run(["tklb", "--version"])
    with database_clone("bookworm", "postgresql", tklb=True) as a:
        postgresql.sql(a, "CREATE DATABASE shop")
        a.run(["tklb", "init"])
        for _ in range(2):
            delta = json.loads(a.run(["tklb", "delta", "--json"]).stdout)
            assert "shop" in {one["name"] for one in delta["databases"]}


@in_a_soak
@pytest.mark.parametrize("name", some(["lamp", "trixie-core"], 2, first=1))
def test_a_lived_in_machine_differs_in_every_way_and_so_does_a_target(name: str) -> None:
    with clone(name) as fresh:
        clean = record(fresh.root, TOPS)
    with used_server(name, files=1000) as a, clone(name, hostname="b") as b:
        lived = record(a.root, TOPS)
        whats = {mismatch.what.split(" user.")[0] for mismatch in compare(clean, lived)}
        wanted = {
            "missing",
            "unexpected",
            "kind",
            "mode",
            "group",
            "content",
            "size",
            "mtime",
            "target",
            "acl",
            "xattr",
        }
        assert wanted <= whats
        marks = {what for fact in lived.values() for what in fact}
        assert {"capability", "default acl", "hard links", "holes", "device", "xattr trusted.secret"} <= marks
        assert any(fact["owner"] == "#54321" for fact in lived.values())
        assert a.run(["apt-mark", "showhold"]).stdout == "figlet\n"
        assert a.run(["dpkg", "--audit"]).stdout == ""
        make_fresh_server(b)
        for mine, its in (
            ("collector", "lonely"),
            ("lonely", "collector"),
            ("second", "first"),
            ("solo", "second"),
            ("worker", "acme-agent"),
        ):
            assert a.run(["id", "-u", mine]).stdout == b.run(["id", "-u", its]).stdout, (mine, its)


def test_the_owners_page_is_served_where_he_lived() -> None:
    with used_server("lamp", files=1000) as a:
        a.start("apache2")
        assert a.http_get("/shop.html").body == OWNERS_PAGE
        assert a.http_get("/", host="shop.example.org").body == b"<p>shop\n"


def test_lives_of_one_seed_are_equal_and_a_day_changes_one_percent() -> None:
    with used_server("core", files=1000) as one, used_server("core", files=1000) as two:
        before = list(bulk_files(FixtureFs(one.root)))
        assert touch_one_percent(one) == touch_one_percent(two) == len(before) // 100
        data = [os.fsdecode(inside) for inside in sorted({*before, *bulk_files(FixtureFs(one.root))})]
        found = compare(record(one.root, data), record(two.root, data))
        assert {it.what for it in found} <= {"mtime"}


def test_clone_whose_supervisor_was_killed_is_taken_away_and_others_stay() -> None:
    with clone("core", hostname="a") as standing, clone("core", hostname="b") as lost:
        for box in (standing, lost):
            os.utime(box.folder, (0, 0))
        assert standing.folder not in stray_clones()
        assert lost.folder not in stray_clones()
        for pid in (lost._supervisor.pid, lost.pid):
            os.kill(pid, signal.SIGKILL)
        lost._supervisor.wait()
        until = time.monotonic() + 60
        while lost.folder not in stray_clones() and time.monotonic() < until:
            time.sleep(0.1)
        remove_stray_clones()
        assert not lost.folder.exists()
        assert lost.folder.name not in Path("/proc/mounts").read_text()
        assert standing.run(["cat", "/etc/hostname"]).stdout == "a\n"


def test_clones_that_come_and_go_are_no_strays() -> None:
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with Box([root("core")], hostname="passing", on="disk", keep=True) as box:
                os.utime(box.folder, (0, 0))
            shutil.rmtree(box.folder)

    passing = threading.Thread(target=come_and_go)
    passing.start()
    try:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert [path for path in stray_clones() if path.name.startswith("passing-")] == []
    finally:
        over.set()
        passing.join()


def test_the_cache_holds_no_stray_clones() -> None:
    assert stray_clones() == []
