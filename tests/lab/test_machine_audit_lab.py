"""The machine audit finds what was changed behind dpkg's back, and nothing on machines that are alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.appliance import clone
from tests.lab.machine_audit import Difference, Facts, compare, is_named, reason_of, record
from tests.lab.soak import SOAK

pytestmark = pytest.mark.lab

# What an administrator does -> the topic and the key in which the audit must show it.
DEEDS = {
    "apt-mark auto curl": ("marks", "curl"),
    "apt-mark hold less": ("packages", "less:amd64"),
    "rm /usr/share/doc/less/copyright": ("verified", "/usr/share/doc/less/copyright"),
    "update-alternatives --install /usr/bin/java java /opt/jdk/bin/java 100": ("alternatives", "java"),
    "update-alternatives --set editor /usr/bin/vim.tiny": ("alternatives", "editor"),
    "dpkg-divert --local --add /bin/own": ("diversions", "local diversion of /bin/own to /bin/own.distrib"),
    "dpkg-statoverride --update --add root adm 0750 /usr/bin/curl": ("overrides", "/usr/bin/curl"),
    "chmod 4755 /usr/bin/xz": ("usr", "/usr/bin/xz"),
    "dpkg --add-architecture i386": ("architectures", "i386"),
    "useradd --system --shell /bin/false daemon-of-ours": ("accounts", "daemon-of-ours"),
    "gpasswd --add www-data adm": ("groups", "adm"),
    "usermod --password x root": ("passwords", "root"),
    "systemctl mask cron.service": ("units", "cron.service"),
    "update-rc.d cron disable": ("runlevels", "rc2.d cron"),
    "ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime": ("clock", "localtime"),
    "chmod 640 /etc/crontab": ("files", "/etc/crontab"),
    "touch /usr/lib/systemd/system/own.service": ("usr", "/usr/lib/systemd/system/own.service"),
    "mkdir /var/lib/own": ("files", "/var/lib/own"),
    "localedef -i de_DE -f UTF-8 de_DE.UTF-8": ("locales", "de_DE.utf8"),
    "sed -i 1iPermitRootLogin-no /etc/ssh/sshd_config": ("configurations", "sh of usr/sbin/sshd"),
}  # fmt: skip


@pytest.fixture(scope="module")
def audits() -> Iterator[tuple[Facts, Facts, Facts]]:
    """Of a fresh machine; of another; of that one after all deeds. A soak, as most of the journeys that audit are."""
    if not SOAK:
        pytest.skip("a soak alone: TKLB_SOAK=1")
    with clone("core", hostname="a") as a, clone("core", hostname="b") as b:
        clean, before = record(a), record(b)
        (b.root / "opt/jdk/bin").mkdir(parents=True)
        (b.root / "opt/jdk/bin/java").touch()
        for deed in DEEDS:
            b.run(deed.split())
        yield clean, before, record(b)


def changed(found: list[Difference]) -> set[tuple[str, str]]:
    return {(one.topic, one.key) for one in found}


def test_fresh_machines_differ_in_their_identity_only(audits: tuple[Facts, Facts, Facts]) -> None:
    clean, before, _ = audits
    names = {"/etc/hostname", "/etc/hosts", *(f"/etc/ssh/ssh_host_{kind}_key{end}" for kind in KINDS for end in ENDS)}
    assert changed(compare(clean, before, before)) == {("files", name) for name in names}


KINDS, ENDS = ("ecdsa", "ed25519", "rsa"), ("", ".pub")


@pytest.mark.parametrize("deed", DEEDS)
def test_what_an_administrator_did_is_found(deed: str, audits: tuple[Facts, Facts, Facts]) -> None:
    clean, before, after = audits
    assert DEEDS[deed] in changed(compare(clean, before, after))


def test_what_only_b_had_before_is_no_difference(audits: tuple[Facts, Facts, Facts]) -> None:
    clean, _, after = audits
    assert ("files", "/var/lib/own") not in changed(compare(clean, after, after))


def test_each_allowance_has_a_reason_and_fits_what_it_says() -> None:
    assert reason_of("files", "/etc/machine-id") == "every machine has its own"
    assert reason_of("files", "/etc/crontab") is None


def test_difference_is_named_by_its_path_a_folder_above_or_its_package() -> None:
    owners = {"/etc/redis/redis.conf": "redis-server"}
    path = Difference("files", "/etc/redis/redis.conf", "file 0640", "")
    assert is_named(path, '"item": "/etc/redis/redis.conf"', {})
    assert is_named(path, "not taken: /etc/redis (12 kB)", {})
    assert is_named(path, '"item": "package:redis-server", "reason": "no package source offers it"', owners)
    assert not is_named(path, "could not read /etc and redis", owners)
    assert is_named(Difference("packages", "jq:amd64", "1", ""), '"item": "package:jq"', {})
