"""The table of what is left out of every profile: its form, and what of /var/lib it keeps in scope."""

import pytest

from tklb.diff.rules import split_path
from tklb.profile.folder import find_profile, list_shipped
from tklb.profile.left_out import LEFT_OUT, LeftOutKind
from tklb.profile.system_paths import is_covered, list_exact_rules

OF_THE_OWNER = (
    "/var/lib/redis/dump.rdb", "/var/lib/docker/volumes/shop/_data/x", "/var/lib/docker/swarm/raft",
    "/var/lib/containers/storage/volumes/v/_data/x", "/var/lib/samba/private/passdb.tdb", "/var/lib/bind/db.example",
    "/var/cache/bind/db.example", "/var/lib/systemd/linger/h", "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/home/h.identity", "/var/lib/private/app/state", "/var/lib/gems/3.1.0/gems/x/x.rb",
    "/var/lib/dhcp/dhcpd.leases", "/var/lib/kea/kea-leases4.csv", "/var/lib/misc/dnsmasq.leases",
    "/var/lib/mysql-files/export.csv", "/var/lib/ldap/data.mdb", "/var/lib/machines/m/etc/x", "/var/lib/tor/onion/key",
    "/var/lib/cloud/scripts/per-boot/x", "/var/lib/polkit-1/localauthority/50-local.d/x.pkla", "/var/opt/shop/x",
    "/var/lib/AccountsService/users/h", "/var/lib/snmp/snmpd.conf", "/var/lib/portables/x.raw", "/var/lib/iwd/home.psk",
)  # fmt: skip
OF_NOBODY = (
    "/var/lib/docker/overlay2/l/x", "/var/lib/containerd/x", "/home/h/.local/share/containers/storage/overlay/l/x",
    "/var/lib/dhcp/dhclient.eth0.leases", "/var/lib/bluetooth/AA/info", "/var/lib/NetworkManager/secret_key",
    "/var/lib/systemd/random-seed", "/var/lib/systemd/catalog/database", "/var/lib/mysql/ibdata1",
    "/var/lib/postgresql/15/main/PG_VERSION", "/var/lib/nginx/body/1", "/var/lib/php/sessions/s", "/var/log/syslog",
    "/var/cache/apt/x", "/boot/vmlinuz", "/usr/bin/ls", "/var/lib/dpkg/status", "/var/backups/dpkg.status.0",
    "/home/aquota.user", "/srv/data/aquota.group",
)  # fmt: skip


@pytest.mark.parametrize("profile", [profile.id for profile in list_shipped()])
def test_data_of_programs_are_in_scope_of_every_profile_and_what_is_made_again_is_not(profile: str) -> None:
    rules = find_profile(None, profile).rules
    assert [path for path in OF_THE_OWNER if not rules.decide(path.encode()).included] == []
    assert [path for path in OF_NOBODY if rules.decide(path.encode()).included] == []


def test_every_path_of_the_table_is_absolute_and_has_a_reason() -> None:
    for item in LEFT_OUT.values():
        assert split_path(item.pattern)
        assert item.reason
        assert item.kind in LeftOutKind


def test_single_path_of_a_package_does_not_bring_its_folder() -> None:
    rules = find_profile(None, "debian-12-core").rules
    rules = type(rules)((*rules.rules, *list_exact_rules([b"/usr/lib/odd[1]"])))
    assert rules.decide(b"/usr/lib/odd[1]").included
    assert not rules.decide(b"/usr/lib/odd[1]/below").included
    assert not is_covered(rules, b"/usr/lib/other")
