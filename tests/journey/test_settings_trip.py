"""Settings of every kind that administrators make by hand come back: from A to a fresh B, judged by what reads them.

Takes the lab's machines of two releases; touches clones and a folder of its own.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.lab.appliance import Appliance, clone, packages_layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
WAY = ("--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key")
HEADER = """### BEGIN INIT INFO
# Provides:          cron
# Required-Start:    $remote_fs
# Required-Stop:     $remote_fs
# Default-Start:     2 3
# Default-Stop:
### END INIT INFO
"""
# path: mode, owner, content
FILES = {
    "/etc/environment": (0o644, "root:root", "EDITOR=vi\n"),
    "/etc/security/limits.d/app.conf": (0o644, "root:root", "app soft nofile 9999\n"),
    "/etc/sudoers.d/deploy": (0o440, "root:root", "deploy ALL=(ALL) NOPASSWD: /bin/true\n"),
    "/etc/systemd/logind.conf.d/own.conf": (0o644, "root:root", "[Login]\nHandleLidSwitch=ignore\n"),
    "/etc/systemd/system.control/cron.service.d/50-CPUWeight.conf": (0o644, "root:root", "[Service]\nCPUWeight=50\n"),
    "/etc/systemd/system-preset/10-own.preset": (0o644, "root:root", "disable *\n"),
    "/etc/systemd/nspawn/box.nspawn": (0o644, "root:root", "[Network]\nVirtualEthernet=no\n"),
    "/etc/credstore.encrypted/app.token": (0o600, "root:root", "c2VjcmV0\n"),
    "/var/lib/systemd/credential.secret": (0o400, "root:root", "what opens the credential\n"),
    "/var/lib/machines/box/etc/os-release": (0o644, "root:root", "ID=box\n"),
    "/etc/ssh/sshd_config.d/own.conf": (0o600, "root:root", "PasswordAuthentication no\n"),
    "/etc/cron.allow": (0o640, "root:crontab", "root\ndeploy\n"),
    "/etc/ld.so.preload": (0o644, "root:root", "\n"),
    "/etc/rc.local": (0o755, "root:root", "#!/bin/sh\nexit 0\n"),
    "/etc/skel/.own": (0o644, "root:root", "x\n"),
    "/etc/machine-info": (0o644, "root:root", "DEPLOYMENT=production\n"),
    "/etc/krb5.keytab": (0o600, "root:root", "keys\n"),
    "/etc/binfmt.d/own.conf": (0o644, "root:root", "# none\n"),
    "/etc/insserv/overrides/cron": (0o644, "root:root", HEADER),
    "/etc/app/of-a-dynamic-user": (0o600, "61234:61234", "x\n"),
    "/var/spool/cron/crontabs/deploy": (0o600, "deploy:crontab", "0 3 * * * /bin/true\n"),
    "/usr/local/bin/tool": (0o755, "root:staff", "#!/bin/sh\n"),
    "/usr/local/etc/tool.conf": (0o600, "deploy:root", "x\n"),
    "/usr/local/lib/python3.99/dist-packages/own.py": (0o644, "root:staff", "x = 1\n"),
    "/usr/local/lib/node_modules/own/package.json": (0o644, "root:root", "{}\n"),
    "/usr/local/share/perl/5.36.0/Own.pm": (0o444, "root:root", "1;\n"),
    "/usr/local/lib/site_ruby/own.rb": (0o644, "root:root", "1\n"),
    "/usr/lib/node_modules/global/index.js": (0o644, "root:root", "1\n"),
    "/srv/share/report": (0o660, "deploy:users", "x\n"),
    "/home/deploy/.config/systemd/user/sync.timer": (0o644, "deploy:deploy", "[Timer]\nOnCalendar=daily\n"),
}
LINKS = {
    "/etc/tmpfiles.d/x11.conf": "/dev/null",
    "/etc/systemd/user/default.target.wants/all.service": "/usr/lib/systemd/user/systemd-tmpfiles-setup.service",
    "/home/deploy/.config/systemd/user/timers.target.wants/sync.timer": "../sync.timer",
}
READERS = {
    "pam": "grep -c pam_mkhomedir /etc/pam.d/common-session; pam-auth-update --package && "
    "grep -h mkhomedir /etc/pam.d/common-session /var/lib/pam/session",
    "shells": "cat /etc/shells",
    "sudo": "visudo -c 2>/dev/null || true; stat -c %a /etc/sudoers.d/deploy",
    "login.defs": "grep -E '^(UMASK|UID_MIN)' /etc/login.defs; useradd -D | sort",
    "zone": "cat /etc/timezone; readlink /etc/localtime",
    "motd": "ls -l /etc/update-motd.d | awk '{print $1, $NF}'",
    "crontab": "crontab -l -u deploy",
    "acl": "getfacl -p /srv/share /srv/share/report",
    "attributes": "getfattr -d /srv/share/report; getcap -n /usr/local/bin/tool /usr/local/bin/in-namespace",
    "runlevels": "ls /etc/rc?.d | grep -i cron",
    "certificate": "cd /etc/ssl/certs; find . -lname ssl-cert-snakeoil.pem; "
    "openssl x509 -hash -noout -in ssl-cert-snakeoil.pem",
    "wordlist": "readlink /etc/dictionaries-common/words; head -n 1 /usr/share/dict/words; "
    "debconf-show dictionaries-common | sort",
}
PACKAGES = ("acl", "attr", "libcap2-bin", "sudo", "ssl-cert", "wamerican", "wbritish")


class Trip(NamedTuple):
    """What the readers said on A and on B, B itself, both restores."""

    before: dict[str, str]
    after: dict[str, str]
    b: Appliance
    report: dict[str, Any]
    again: dict[str, Any]
    delta: set[str]


def ask(machine: Appliance) -> dict[str, str]:
    return {name: machine.run(["sh", "-c", code], check=False).stdout for name, code in READERS.items()}


def live(a: Appliance) -> None:
    """Do what administrators do, by hand and by Debian's tools."""
    a.run(["select-default-wordlist", "--set-default=british"])
    a.run(["useradd", "--create-home", "deploy"])
    for path, (mode, owner, text) in FILES.items():
        place = a.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        a.run(["chown", owner, path])
        place.chmod(mode)
    for path, target in LINKS.items():
        (a.root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (a.root / path[1:]).symlink_to(target)
    a.run(["pam-auth-update", "--enable", "mkhomedir"])
    a.run(["sh", "-c", "cp /bin/true /usr/local/bin/mysh && add-shell /usr/local/bin/mysh"])
    a.run(["sed", "-i", "s/^UID_MIN.*/UID_MIN 2000/", "/etc/login.defs"])
    a.run(["useradd", "-D", "--shell", "/bin/bash"])
    a.run(["sh", "-c", "echo Europe/Prague > /etc/timezone; ln -sf /usr/share/zoneinfo/Europe/Prague /etc/localtime"])
    a.run(["dpkg-reconfigure", "--frontend=noninteractive", "tzdata"])
    a.run(["sh", "-c", "chmod -x /etc/update-motd.d/*"])
    a.run(["update-rc.d", "cron", "disable"])
    a.run(["setfacl", "-m", "u:deploy:rw,d:g:users:rwx", "/srv/share"])
    a.run(["setfacl", "-m", "u:www-data:r", "/srv/share/report"])
    a.run(["setfattr", "-n", "user.origin", "-v", "scanner", "/srv/share/report"])
    a.run(["setcap", "cap_net_raw=ep", "/usr/local/bin/tool"])
    a.run(["cp", "/usr/local/bin/tool", "/usr/local/bin/in-namespace"])
    a.run(["setcap", "-n", "100000", "cap_net_raw=ep", "/usr/local/bin/in-namespace"])


def read_json(machine: Appliance, *words: str) -> dict[str, Any]:
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=900)
    assert done.returncode in (0, 3), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2, first=1))
def trip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    binds = {tmp_path_factory.mktemp("share"): SHARE}
    packages = packages_layer(request.param, "a", *PACKAGES)
    with clone(request.param, tklb=True, binds=binds, layers=[packages]) as a:
        live(a)
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        read_json(a, "backup")
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
        before, delta = ask(a), {file["path"] for file in read_json(a, "delta")["files"]}
    with clone(request.param, hostname="b", tklb=True, binds=binds) as b:
        report = read_json(b, "restore", "--yes", *WAY)
        again = read_json(b, "restore", "--dry-run", *WAY)
        yield Trip(before, ask(b), b, report, again, delta)


def test_each_file_comes_back_with_mode_and_owner(trip: Trip) -> None:
    lost: dict[str, tuple[list[str], bool]] = {}
    for path, (mode, owner, text) in FILES.items():
        place = trip.b.root / path[1:]
        found = trip.b.run(["stat", "--format=%a %U:%G %u:%g", path], check=False).stdout.split()
        is_same = place.is_file() and place.read_text() == text and found[0] == f"{mode:o}" and owner in found[1:]
        lost |= {} if is_same else {path: (found, path in trip.delta)}
    lost |= {path: ([], True) for path, to in LINKS.items() if trip.b.run(["readlink", path]).stdout.strip() != to}
    assert lost == {}


@pytest.mark.parametrize("reader", READERS)
def test_the_reader_of_a_setting_says_on_b_what_it_said_on_a(trip: Trip, reader: str) -> None:
    assert trip.after[reader] == trip.before[reader]
    assert trip.before[reader]


def test_nothing_is_skipped_and_a_second_restore_has_nothing_to_do(trip: Trip) -> None:
    assert trip.report["skipped"] == []
    assert trip.again["steps"] == []
    assert any("sync.timer" in warning for warning in trip.report["warnings"])
