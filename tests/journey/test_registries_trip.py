"""Decisions in dpkg's and debconf's registries come back, judged by the tools that keep them.

Takes the lab's machines of two releases; touches clones and folders of its own.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone
from tests.lab.soak import some

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
WAY = ("--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key")
JAVA = ("/usr/bin/java", "java", "/opt/jdk/bin/java", "100")
SLAVE = ("--slave", "/usr/share/man/man1/java.1.gz", "java.1.gz", "/opt/jdk/man/java.1.gz")
IMMUTABLE = ("/etc/adduser.conf", "/etc/passwd", "/etc/subuid")
ASKER = """Template: asker/mode
Type: select
Choices: slow, fast
Default: slow
Description: mode

Template: asker/secret
Type: password
Description: secret
"""
ANSWERS = """man-db man-db/auto-update boolean false
asker asker/mode select fast
asker asker/secret password hunter2
"""
ASKER_POSTINST = """set -e
. /usr/share/debconf/confmodule
db_input high asker/mode || true
db_go || true
db_get asker/mode
echo "$RET" > /var/lib/asker-was-told
locale charmap > /var/cache/asker-charset
"""
TOOL_PREINST = """set -e
dpkg-divert --package tool --rename --divert /usr/bin/clear.real --add /usr/bin/clear
dpkg-divert --package tool --rename --divert /usr/bin/tput.real --add /usr/bin/tput
"""
TOOL_POSTINST = """set -e
OWNER=root
for one in tool; do
    update-alternatives --install /usr/bin/$one $one /usr/bin/${one}-one 50
    if ! dpkg-statoverride --list "/usr/bin/$one-one" >/dev/null; then
        dpkg-statoverride --update --add "$OWNER" "adm" 2750 "/usr/bin/$one-one"
    fi
done
"""


class Registry(NamedTuple):
    """What one tool says of a machine."""

    name: str
    words: tuple[str, ...]


REGISTRIES = (
    Registry("architectures", ("dpkg", "--print-foreign-architectures")),
    Registry("diversions", ("dpkg-divert", "--list")),
    Registry("overrides", ("dpkg-statoverride", "--list")),
    Registry("alternatives", ("update-alternatives", "--get-selections")),
    Registry("java", ("update-alternatives", "--query", "java")),
    Registry("editor", ("update-alternatives", "--query", "editor")),
    Registry("tool", ("update-alternatives", "--query", "tool")),
    Registry("vi", ("sh", "-c", "for group in vi pico lzma; do update-alternatives --query $group; done; echo gone")),
    Registry("flags", ("lsattr", "/etc/passwd", "/etc/subuid", "/etc/group")),
    Registry("man-db", ("debconf-show", "man-db")),
    Registry("asker", ("debconf-show", "asker")),
    Registry("answers", ("grep", "-A4", "asker/secret", "/var/cache/debconf/passwords.dat")),
)


class Trip(NamedTuple):
    """What the tools said on A and on B, B itself, and the reports of the two restores."""

    before: dict[str, str]
    after: dict[str, str]
    b: Appliance
    delta: tuple[dict[str, Any], dict[str, Any]]
    plan: dict[str, Any]
    report: dict[str, Any]
    again: dict[str, Any]


def ask(machine: Appliance) -> dict[str, str]:
    said = {one.name: machine.run(list(one.words), check=False).stdout for one in REGISTRIES}
    return {name: "\n".join(sorted(text.splitlines())) for name, text in said.items()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    share = tmp_path_factory.mktemp("share")
    folder = share / "archive"
    folder.mkdir()
    asks = {"postinst": ASKER_POSTINST}
    repository.deb(folder, "asker", fields="Depends: debconf\n", scripts=asks, templates=ASKER)
    tool = {"/usr/bin/tool-one": "#!/bin/sh\necho one\n", "/etc/cron.daily/tool": "#!/bin/sh\nexit 0\n"}
    conffiles = ("/etc/cron.daily/tool", "/etc/tool.conf")
    files = {**tool, "/etc/tool.conf": "a\n"}
    repository.deb(
        folder, "tool", files=files, conffiles=conffiles, scripts={"preinst": TOOL_PREINST, "postinst": TOOL_POSTINST}
    )
    repository.index(folder)
    return share


def decide(a: Appliance) -> None:
    """The decisions of an owner, one of each kind and some more."""
    root = a.root
    for path in ("opt/jdk/bin/java", "usr/local/bin/edit"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("#!/bin/sh\necho mine\n")
        (root / path).chmod(0o755)
    (root / "opt/jdk/man").mkdir()
    (root / "opt/jdk/man/java.1.gz").write_text("manual\n")
    a.run(["useradd", "--create-home", "--uid", "1000", "deploy"])
    a.run(["dpkg", "--add-architecture", "i386"])
    a.run(["update-alternatives", "--install", *JAVA, *SLAVE])
    a.run(["update-alternatives", "--install", "/usr/bin/editor", "editor", "/usr/local/bin/edit", "900"])
    a.run(["update-alternatives", "--set", "pager", "/bin/more"])
    a.run(["dpkg-statoverride", "--update", "--add", "root", "adm", "0640", "/etc/adduser.conf"])
    a.run(["dpkg-statoverride", "--update", "--add", "root", "deploy", "4750", "/usr/bin/wall"])
    a.run(["dpkg-statoverride", "--update", "--add", "#1000", "#1000", "0750", "/usr/bin/chage"])
    a.run(["dpkg-divert", "--local", "--rename", "--divert", "/usr/bin/less.real", "--add", "/usr/bin/less"])
    (root / "usr/bin/less").write_text("#!/bin/sh\nexec less.real -R\n")
    (root / "usr/bin/less").chmod(0o755)
    a.run(["dpkg-divert", "--local", "--rename", "--divert", "/etc/issue.debian", "--add", "/etc/issue"])
    (root / "etc/issue").write_text("ours\n")
    a.run(["debconf-set-selections"], input=ANSWERS)
    a.run(["apt-get", "-qy", "install", "asker", "tool"])
    a.run(["dpkg-statoverride", "--update", "--add", "--force-all", "root", "root", "0700", "/usr/bin/tool-one"])
    a.run(["chmod", "-x", "/etc/cron.daily/tool"])
    a.run(["chmod", "0600", "/etc/tool.conf"])
    a.run(["update-alternatives", "--remove", "vi", "/usr/bin/vim.tiny"])
    a.run(["update-alternatives", "--remove-all", "pico"])
    a.run(["update-alternatives", "--remove", "lzma", "/usr/bin/xz"])
    a.run(["sh", "-c", "rm /var/log/alternatives.log*"])  # the scripts alone tell
    a.run(["dpkg-statoverride", "--remove", "/usr/bin/crontab"])
    a.run(["dpkg-divert", "--package", "tool", "--rename", "--remove", "/usr/bin/clear"])
    jobs = root / "var/spool/cron/atjobs"
    jobs.mkdir(parents=True, exist_ok=True)
    (jobs / "a0000101d5f3a2").write_text("#!/bin/sh\n# atrun uid=1000 gid=1000\n# mail deploy 0\necho hello\n")
    a.run(["chown", "deploy:deploy", "/var/spool/cron/atjobs/a0000101d5f3a2"])
    a.run(["chmod", "0700", "/var/spool/cron/atjobs/a0000101d5f3a2"])
    (root / "srv/ledger").write_text("one line\n")
    a.run(["chattr", "+i", "/etc/adduser.conf"])
    a.run(["chattr", "+a", "/srv/ledger"])
    a.run(["chattr", "+i", "/etc/passwd", "/etc/subuid"])
    (root / "srv/kept").mkdir()
    (root / "srv/kept/file").write_text("kept\n")
    a.run(["chattr", "+i", "/srv/kept", "/srv/kept/file"])


def use_source(machine: Appliance) -> None:
    (machine.root / "etc/apt/sources.list").write_text("")
    (machine.root / "etc/apt/sources.list.d/own.list").write_text(f"deb [trusted=yes] file:{SHARE}/archive ./\n")
    machine.run(["apt-get", "-q", "update"])


def read_json(machine: Appliance, *words: str, statuses: tuple[int, ...] = (0,)) -> dict[str, Any]:
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=600)
    assert done.returncode in statuses, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2, first=1))
def trip(request: pytest.FixtureRequest, archive: Path) -> Iterator[Trip]:
    binds = {archive: SHARE}
    target = archive / "target"
    with clone(request.param, tklb=True, binds=binds) as a:
        use_source(a)
        decide(a)
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
        before, of_a = ask(a), read_json(a, "delta")
        a.run(["chattr", "-R", "-ai", "/srv", *IMMUTABLE])
    with clone(request.param, hostname="b", tklb=True, binds=binds) as b:
        use_source(b)
        b.run(["useradd", "--create-home", "--uid", "1000", "olga"])
        (b.root / "srv/kept").mkdir()
        (b.root / "srv/kept/file").write_text("other\n")
        b.run(["chattr", "+i", "/srv/kept/file"])
        plan = read_json(b, "restore", "--dry-run", *WAY)
        report = read_json(b, "restore", "--yes", *WAY)
        again = read_json(b, "restore", "--dry-run", *WAY)
        yield Trip(before, ask(b), b, (of_a, read_json(b, "delta")), plan, report, again)
        b.run(["chattr", "-R", "-ai", "/srv", *IMMUTABLE])
    for path in (target, archive / "key"):
        os.system(f"rm -rf {path}")


@pytest.mark.parametrize("registry", [one.name for one in REGISTRIES])
def test_the_tools_say_on_b_what_they_said_on_a(trip: Trip, registry: str) -> None:
    number = trip.b.run(["id", "-u", "deploy"]).stdout.strip()
    assert number != "1000"
    group = trip.b.run(["id", "-g", "deploy"]).stdout.strip()
    assert trip.after[registry] == trip.before[registry].replace("#1000 #1000", f"#{number} #{group}")
    assert trip.before[registry]


def test_nothing_is_left_to_do_and_both_deltas_are_equal(trip: Trip) -> None:
    assert trip.report["skipped"] == []
    assert trip.again["steps"] == []
    of_a, of_b = (one["registries"] for one in trip.delta)
    numbers = [one for one in of_a if not one["detail"].startswith("#")]
    assert numbers == [one for one in of_b if not one["detail"].startswith("#")]
    changes = [{(one["path"], one["change"]) for one in delta["files"]} for delta in trip.delta]
    assert {path for path, _ in changes[0] ^ changes[1] if "olga" not in path} <= {
        "/etc/resolv.conf", "/etc/network/interfaces", "/etc/fstab", "/etc/machine-id",
    }  # fmt: skip


def test_delta_and_plan_name_each_decision_and_no_password(trip: Trip) -> None:
    kinds = {(one["registry"], one["item"]) for one in trip.delta[0]["registries"]}
    assert {
        ("architectures", "i386"), ("diversions", "/usr/bin/less"), ("stat-overrides", "/etc/adduser.conf"),
        ("alternatives", "java"), ("alternatives", "pager"), ("debconf", "asker/secret"),
    } <= kinds  # fmt: skip
    removed = {(one["registry"], one["item"]) for one in trip.delta[0]["registries"] if one["change"] == "removed"}
    assert removed == {
        ("alternatives", "vi"), ("alternatives", "pico"), ("alternatives", "lzma"), ("diversions", "/usr/bin/clear"),
        ("stat-overrides", "/usr/bin/crontab"),
    }  # fmt: skip
    steps = [step["step"] for step in trip.plan["steps"]]
    assert {"add-architecture", "preseed-answer", "add-diversion", "add-statoverride"} <= {*steps}
    assert {"set-alternative", "set-flags", "remove-alternative", "remove-statoverride"} <= {*steps}
    assert steps.index("preseed-answer") < steps.index("install-package")
    assert "hunter2" not in json.dumps([trip.delta, trip.plan, trip.report])
    log = trip.b.run(["sh", "-c", "cat /var/log/tklb/*"]).stdout
    assert log
    assert "hunter2" not in log


def test_modes_that_an_owner_closed_or_switched_off_stay_so(trip: Trip) -> None:
    def mode(path: str) -> str:
        return trip.b.run(["stat", "--format=%a %G", path]).stdout.strip()

    assert mode("/etc/adduser.conf") == "640 adm"
    assert mode("/usr/bin/wall") == "4750 deploy"
    assert mode("/usr/bin/chage") == "750 deploy"
    assert mode("/usr/bin/tool-one") == "700 root"
    assert mode("/etc/cron.daily/tool") == "644 root"
    assert mode("/etc/tool.conf") == "600 root"
    assert trip.b.run(["run-parts", "--test", "/etc/cron.daily"]).stdout.find("tool") < 0


def test_diverted_files_are_the_owner_s_and_the_package_s_have_moved(trip: Trip) -> None:
    assert "less.real" in trip.b.run(["cat", "/usr/bin/less"]).stdout
    assert (trip.b.root / "usr/bin/less.real").stat().st_size > 10_000
    assert trip.b.run(["cat", "/etc/issue"]).stdout == "ours\n"
    assert "Debian" in trip.b.run(["cat", "/etc/issue.debian"]).stdout
    assert trip.b.run(["java"]).stdout == "mine\n"


def test_a_package_that_asks_was_answered_before_it_came(trip: Trip) -> None:
    assert trip.b.run(["cat", "/var/lib/asker-was-told"]).stdout == "fast\n"
    assert trip.b.run(["cat", "/var/cache/asker-charset"]).stdout == "UTF-8\n"


def test_a_job_of_at_names_the_account_that_owns_it(trip: Trip) -> None:
    place = "/var/spool/cron/atjobs/a0000101d5f3a2"
    uid, gid = trip.b.run(["stat", "--format=%u %g", place]).stdout.split()
    head = trip.b.run(["sed", "-n", "2p", place]).stdout
    assert head == f"# atrun uid={uid} gid={gid}\n"
    assert uid == trip.b.run(["id", "-u", "deploy"]).stdout.strip()


def test_flags_come_back_and_are_no_obstacle(trip: Trip) -> None:
    said = trip.b.run(["lsattr", "-d", "/etc/adduser.conf", "/srv/ledger", "/srv/kept", "/srv/kept/file"]).stdout
    flags = {line.split()[1]: line.split()[0].replace("-", "") for line in said.splitlines()}
    assert "i" in flags["/etc/adduser.conf"]
    assert "a" in flags["/srv/ledger"]
    assert "i" in flags["/srv/kept"]
    assert "i" in flags["/srv/kept/file"]
    assert trip.b.run(["cat", "/srv/kept/file"]).stdout == "kept\n"
    assert any("/srv/kept/file is protected by chattr here" in warning for warning in trip.plan["warnings"])
