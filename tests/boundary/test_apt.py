"""apt, dpkg and services, on a real Debian inside the lab, with an archive made for the purpose."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone

pytestmark = pytest.mark.lab

TREE = Path(__file__).parents[2]
PRINTED = """
import json, sys
from pathlib import Path
from tklb.errors import TklbError
from tklb.model.packages import PackageDelta, PackageOrder, SourceFile
from tklb.model.report import Skipped
from tklb.host import dpkg, services
from tklb.host.apt import command as apt, finish, install as apt_install, locks, offers, source_files
def install(names, **more):
    return apt_install.install([PackageOrder(name, **more) for name in names]).skipped
def plain(value):
    if isinstance(value, Skipped):
        return [value.item, value.reason]
    return value.decode() if isinstance(value, bytes) else list(value) if isinstance(value, (set, frozenset)) else [
        getattr(value, name) for name in value.__slots__]
try:
    print(json.dumps(EXPRESSION, default=plain))
except TklbError as exc:
    print(json.dumps([exc.name, str(exc)]))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for name in ("good-a", "good-b", "kept-off"):
        repository.deb(folder, name)
    repository.deb(folder, "no-way", fields="Depends: not-in-any-archive\n")
    repository.deb(folder, "bad-post", scripts={"postinst": "exit 7"})
    repository.deb(folder, "fails-once", scripts={"postinst": "! [ -e /mnt/fails ]"})
    repository.deb(folder, "bad-pre", scripts={"preinst": "exit 7"})
    repository.deb(folder, "asks", scripts={"postinst": "read answer && exit 1; exit 0"})
    repository.deb(folder, "evicts", fields="Conflicts: nano\n")
    repository.deb(folder, "needs-good-a", fields="Depends: good-a\n")
    repository.deb(folder, "has-conf", files={"/etc/has.conf": "as shipped\n"}, conffiles=("/etc/has.conf",))
    repository.deb(
        folder,
        "has-service",
        files={
            "/etc/init.d/has-service": "#!/bin/sh\n### BEGIN INIT INFO\n### END INIT INFO\necho $1 >>/run/has-service\n"
        },
        scripts={"postinst": "chmod 755 /etc/init.d/has-service; invoke-rc.d has-service start || exit 9"},
    )
    for version in ("1", "2"):
        bound = f"Depends: good-a, libbound (= {version})\n"
        repository.deb(folder, "bound", version, fields=bound)
        repository.deb(folder, "libbound", version, fields=f"Pre-Depends: bound-data (= {version})\n")
        repository.deb(folder, "bound-data", version)
    repository.deb(folder, "dpkg", "0.1")  # as in every archive of Debian
    repository.index(folder)
    outside = folder / "outside"
    outside.mkdir()
    repository.deb(outside, "from-a-file")
    return folder


@pytest.fixture
def box(archive: Path) -> Iterator[Appliance]:
    with clone("core", binds={TREE: "/src", archive: "/archive"}) as machine:
        (machine.root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/archive ./\n")
        machine.run(["apt-get", "update"])
        (machine.root / "usr/sbin/policy-rc.d").unlink()
        yield machine


def ask(box: Appliance, expression: str) -> Any:
    """Evaluate an expression of tklb.host inside."""
    code = PRINTED.replace("EXPRESSION", expression)
    done = box.run(["python3", "-c", code], env={"PYTHONPATH": "/src", "PYTHONDONTWRITEBYTECODE": "1"})
    return json.loads(done.stdout)


def state(box: Appliance, name: str) -> str:
    done = box.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", name], check=False)
    return done.stdout.strip()


def test_what_can_be_had_is_installed_and_the_rest_is_named_with_the_reason(box: Appliance) -> None:
    names = ["good-a", "bad-pre", "no-way", "unheard-of", "rm -rf /", "evicts", "good-b", "nano-"]
    left = ask(box, f"install({names})")
    reasons = dict(left)
    assert sorted(reasons) == sorted(f"package:{name}" for name in names if not name.startswith("good"))
    assert reasons["package:unheard-of"] == reasons["package:rm -rf /"] == "no package source offers it"
    assert "not-in-any-archive" in reasons["package:no-way"]
    assert [state(box, name) for name in ("good-a", "good-b", "nano")] == ["ii", "ii", "ii"]


def test_a_held_version_brings_what_it_needs_in_one_very_version(box: Appliance) -> None:
    """apt alone would choose the newest of each, which the held one does not fit."""
    held = "PackageOrder('bound', '1', True), PackageOrder('good-a', '1')"
    needed = "PackageOrder('libbound', '1'), PackageOrder('bound-data', '1')"
    assert ask(box, f"apt_install.install([{held}, {needed}])") == [[], []]
    versions = "${Package}=${Version} "
    there = box.run(["dpkg-query", "-W", "-f", versions, "bound", "libbound", "bound-data", "good-a"]).stdout.split()
    assert sorted(there) == ["bound-data=1", "bound=1", "good-a=1", "libbound=1"]


def test_a_package_whose_script_fails_does_not_stop_the_others(box: Appliance) -> None:
    left = ask(box, "install(['bad-post', 'good-a', 'needs-good-a'])")
    assert [item for item, _ in left] == ["package:bad-post"]
    assert [state(box, name) for name in ("good-a", "needs-good-a")] == ["ii", "ii"]
    assert [item for item, _ in ask(box, "install(['good-b'])")] == ["package:bad-post"]
    assert state(box, "good-b") == "ii"


def test_no_prompt_can_hang_an_installation(box: Appliance) -> None:
    (box.root / "etc/has.conf").write_text("the owner's\n")
    assert ask(box, "install(['asks', 'has-conf'])") == []
    assert (box.root / "etc/has.conf").read_text() == "the owner's\n"


def test_services_do_not_start_while_packages_come_in(box: Appliance) -> None:
    policy = box.root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    policy.chmod(0o755)
    assert ask(box, "install(['has-service'])") == []
    assert box.run(["cat", "/run/has-service"], check=False).stdout == ""
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert ask(box, "services.restart(['has-service', 'absent', '../../evil'])") == [
        ["service:../../evil", "not a valid name of a service"],
    ]
    assert "start" in box.run(["cat", "/run/has-service"]).stdout


def test_without_systemd_a_running_service_is_restarted_and_no_other_is_started(box: Appliance) -> None:
    assert ask(box, "services.restart(['cron'])") == []
    assert "cron" not in box.run(["ps", "-eo", "comm"]).stdout.split()
    box.start("cron")
    before = box.run(["pgrep", "-x", "cron"]).stdout
    assert ask(box, "services.restart(['cron'])") == []
    assert box.run(["pgrep", "-x", "cron"]).stdout not in ("", before)
    policy = box.root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    assert ask(box, "services.restart(['cron'])") == [["service:cron", "policy-rc.d forbids it"]]


def test_a_policy_left_by_a_killed_run_is_taken_away(box: Appliance) -> None:
    policy = box.root / "usr/sbin/policy-rc.d"
    kill = "(lambda d: (d.__enter__(), __import__('os')._exit(0)))(services.deny_service_starts())"
    code = PRINTED.replace("EXPRESSION", kill)
    policy.write_text("#!/bin/sh\nexit 0\n")
    box.run(["python3", "-c", code], env={"PYTHONPATH": "/src", "PYTHONDONTWRITEBYTECODE": "1"})
    assert "exit 101" in policy.read_text()
    assert ask(box, "install(['good-a'])") == []
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_marks_are_set_as_wanted(box: Appliance) -> None:
    marks = "[('good-a', True, False), ('good-b', False, True), ('needs-good-a', False, True), ('gone', True, False)]"
    assert ask(box, f"(install(['good-a', 'good-b']), apt.mark({marks}))") == [[], []]
    found = {words[0]: words[3:] for words in ask(box, "dpkg.list_installed()")}
    assert (found["good-a"], found["good-b"]) == ([True, False], [False, True])
    assert box.run(["apt-mark", "showhold"]).stdout.split() == ["good-b", "needs-good-a"]
    ((item, reason),) = ask(box, "apt.mark([('unknown', False, True)])")
    assert item == "package:unknown"
    assert "not held: E: Unable to locate package unknown" in reason


def test_a_removal_that_would_take_others_along_is_not_carried_out(box: Appliance) -> None:
    ask(box, "install(['needs-good-a', 'good-b'])")
    assert ask(box, "apt.remove(['good-a', 'good-b', 'absent'])") == [
        ["package:good-a", "others would go with it: needs-good-a"]
    ]
    assert (state(box, "good-a"), state(box, "good-b")) == ("ii", "")
    assert ask(box, "apt.remove(['good-a', 'needs-good-a'])") == []


def test_a_held_package_here_is_left_alone(box: Appliance) -> None:
    box.run(["apt-mark", "hold", "nano"])
    assert [item for item, _ in ask(box, "install(['evicts', 'good-a'])")] == ["package:evicts"]
    assert state(box, "nano") == "hi"


def test_a_failing_source_is_a_warning(box: Appliance) -> None:
    (box.root / "etc/apt/sources.list.d/gone.list").write_text("deb [trusted=yes] file:/nowhere ./\n")
    warnings = ask(box, "apt.update()")
    assert any("/nowhere" in warning for warning in warnings)
    assert ask(box, "install(['good-a'])") == []


def test_a_dpkg_whose_journal_is_open_is_refused_until_it_is_finished(box: Appliance) -> None:
    nano = box.run(["dpkg-query", "-s", "nano"]).stdout
    (box.root / "var/lib/dpkg/updates/0001").write_text(nano)
    assert ask(box, "install(['good-a'])")[0] == "PackagesFailed"
    assert ask(box, "finish.find_faults()") == ["dpkg was interrupted"]
    assert ask(box, "[finish.finish_installation(), finish.find_faults(), install(['good-a'])]") == [[], [], []]


def test_what_an_interrupted_dpkg_left_is_finished_and_the_rest_is_named(box: Appliance) -> None:
    (box.root / "mnt/fails").touch()
    box.run(["apt-get", "-qy", "install", "fails-once", "bad-post"], check=False)
    box.run(["dpkg", "--unpack", "/archive/has-conf_1_all.deb"])
    status = box.root / "var/lib/dpkg/status"
    begun = "Package: good-b\nStatus: install reinstreq half-installed\nVersion: 1\nArchitecture: all\n"
    gone = "Package: unheard-of\nStatus: install reinstreq half-installed\nVersion: 1\nArchitecture: all\n"
    more = "Maintainer: A <a@example.org>\nDescription: x\n\n"
    status.write_text(status.read_text() + begun + more + gone + more)
    assert [state(box, name) for name in ("fails-once", "has-conf", "good-b")] == ["iF", "iU", "iHR"]
    assert len(ask(box, "finish.find_faults()")) == 1
    (box.root / "mnt/fails").unlink()
    [[item, reason]] = ask(box, "finish.finish_installation()")
    assert (item, "exit status 7" in reason) == ("package:bad-post", True)
    assert [state(box, name) for name in ("fails-once", "has-conf", "good-b")] == ["ii", "ii", "ii"]
    assert state(box, "unheard-of") in ("", "un")
    assert (box.root / "etc/has.conf").read_text() == "as shipped\n"


def test_locks_of_dpkg_apt_and_debconf_are_waited_for_and_the_holder_is_named(box: Appliance) -> None:
    hold = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'a');"
        "getattr(fcntl, sys.argv[2])(lock, fcntl.LOCK_EX); print(1, flush=True); time.sleep(2)"
    )
    for path, way in (("dpkg/lock", "lockf"), ("apt/lists/lock", "lockf"), ("../cache/debconf/config.dat", "flock")):
        holder = box.popen(["python3", "-c", hold, f"/var/lib/{path}", way], stdout=subprocess.PIPE)
        assert holder.stdout is not None
        holder.stdout.readline()
        name, message = ask(box, "locks.wait_for_locks(b'/', 0)")
        assert name == "PackagesFailed"
        assert "python3" in message or way == "flock", message
        assert ask(box, "locks.wait_for_locks(b'/', 30)") is None
        holder.wait()
        holder.stdout.close()


def test_a_package_from_a_file_is_told_from_one_that_a_source_offers(box: Appliance) -> None:
    box.run(["apt-get", "install", "-qy", "good-a", "/archive/outside/from-a-file_1_all.deb"])
    wanted = "PackageDelta(tuple(p for p in dpkg.list_installed() if p.name in ('good-a', 'from-a-file')))"
    call = f"[offers.find_origins(b'/', dpkg.list_installed(), {wanted}, Path('/tmp/cache')).local for _ in (1, 2)]"
    assert ask(box, call) == [["from-a-file"], ["from-a-file"]]
    (box.root / "etc/apt/sources.list").write_text("")  # nothing is offered, so nothing can be told
    assert ask(box, call) == [[], []]


def test_the_owners_sources_travel_and_debians_own_stay(box: Appliance) -> None:
    etc = box.root / "etc/apt"
    (etc / "sources.list").write_text(
        "deb http://deb.example.debian.org/debian bookworm main contrib\n"
        "deb http://deb.example.debian.org/debian bookworm-updates main\n"
        "# deb http://nobody.example.org/x ./\n"
    )
    (etc / "sources.list.d/shop.sources").write_text(
        "Types: deb\nURIs: https://shop.example.org/apt\nSuites: stable\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/shop.gpg\n"
    )
    (box.root / "usr/share/keyrings/shop.gpg").write_bytes(b"\x99key")
    (box.root / "usr/share/keyrings/other.gpg").write_bytes(b"\x99other")
    (etc / "auth.conf.d").mkdir(exist_ok=True)
    (etc / "auth.conf.d/shop.conf").write_text("machine shop.example.org login a password b\n")
    (etc / "auth.conf.d/shop.conf").chmod(0o600)
    found = {
        path: (content, mode)
        for path, content, mode in ask(
            box, "[(f.path, f.content.decode('latin-1'), f.mode) for f in source_files.read_extra_sources()]"
        )
    }
    assert sorted(found) == [
        "/etc/apt/auth.conf.d/shop.conf",
        "/etc/apt/sources.list.d/shop.sources",
        "/etc/apt/sources.list.d/tklb-restored.list",
        "/usr/share/keyrings/shop.gpg",
    ]
    assert found["/etc/apt/auth.conf.d/shop.conf"][1] == 0o600
    restored = found["/etc/apt/sources.list.d/tklb-restored.list"][0]
    assert restored == "deb http://deb.example.debian.org/debian bookworm contrib\n"


def test_source_files_are_put_in_place_whole(box: Appliance) -> None:
    file = "SourceFile(b'/etc/apt/keyrings/new/k.gpg', b'key', 0o644)"
    assert ask(box, f"source_files.add_sources(b'/', [{file}])") == []
    assert (box.root / "etc/apt/keyrings/new/k.gpg").read_bytes() == b"key"
    box.run(["ln", "-s", "/tmp", "/etc/apt/evil"])
    evil = "SourceFile(b'/etc/apt/evil/k.gpg', b'key', 0o644)"
    assert ask(box, f"source_files.add_sources(b'/', [{evil}])") == [["/etc/apt/evil/k.gpg", "its folder is a link"]]


def test_the_lock_of_another_apt_is_waited_for(box: Appliance) -> None:
    hold = (
        "import fcntl, time; lock = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(lock, fcntl.LOCK_EX);"
        "print(1, flush=True); time.sleep(3)"
    )
    holder = box.popen(["python3", "-c", hold], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert ask(box, "install(['good-a'])") == []
    holder.wait()
    holder.stdout.close()
