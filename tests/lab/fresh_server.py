"""Make a fresh target differ from the source the way fresh machines do: other ids, other admin, other identity.

`make_fresh_server(b)` knows the order in which `used_server.live` made A's accounts, and makes B's so that
(n is the first free id)

    on A  n collector  n+1 lonely     n+2 first     n+3 second  n+4 solo     999 worker      997 acme-agent
    on B  n lonely     n+1 collector  n+2 backupd   n+3 first   n+4 second   999 acme-agent  997 worker

which are two swaps, a chain, and a name of A's alone that has to move away. The human ids 1000 and 1500 are taken too.
Touches the box, and only its identity and accounts.
"""

from __future__ import annotations

import hashlib

from tests.lab.box import Box

ADMIN_HASH = "$6$othersalt$" + "q" * 86
COUNTING_UP = ("lonely", "collector", "backupd", "first", "second")  # adduser takes the lowest free id
COUNTING_DOWN = ("acme-agent", "worker", "exporter")  # useradd takes the highest


def make_fresh_server(box: Box) -> None:
    """Do everything."""
    take_ids(box)
    have_other_admin(box)
    have_own_identity(box)


def take_ids(box: Box) -> None:
    """System accounts made in another order than on A, so that the same numbers mean other names."""
    for name in COUNTING_UP:
        box.run(["adduser", "--quiet", "--system", "--group", "--no-create-home", name])
    for name in COUNTING_DOWN:
        box.run(["useradd", "--system", "--user-group", "--shell", "/bin/false", name])
    box.run(["groupadd", "--system", "readers"])
    box.run(["groupadd", "--gid", "1500", "staff-of-b"])


def have_other_admin(box: Box) -> None:
    """The installer's first user has uid 1000, A's alice's; A's name bob is here, with another id."""
    box.run(["useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "--groups", "sudo", "olga"])
    box.run(["useradd", "--create-home", "--uid", "1007", "bob"])
    box.run(["chpasswd", "--encrypted"], input=f"root:{ADMIN_HASH}\nolga:{ADMIN_HASH}\n")
    (box.root / "home/olga/notes").write_text("mine\n")
    box.run(["chown", "olga:olga", "/home/olga/notes"])


def have_own_identity(box: Box) -> None:
    """Other disk, network, machine id and boot settings than any clone of the lab has by itself."""
    etc = box.root / "etc"
    disk = hashlib.sha1(b"other disk").hexdigest()
    (etc / "fstab").write_text(f"UUID={disk[:8]} / ext4 defaults 0 1\n/dev/vdb1 none swap sw 0 0\n")
    (etc / "machine-id").write_text(hashlib.md5(b"other machine").hexdigest() + "\n")
    network = "iface eth0 inet static\n    address 192.0.2.17/24\n    gateway 192.0.2.1\n"
    if (etc / "network").exists():
        (etc / "network/interfaces").write_text("auto lo eth0\niface lo inet loopback\n" + network)


def identity(role: str = "replacement") -> tuple[str, ...]:
    """Patterns of the paths below which a restored B may differ from A, for the checker's `allowed`."""
    always = ("/etc/fstab", "/etc/machine-id", "/etc/network/**", "/etc/resolv.conf", "/etc/apt/sources.list")
    hosts_own = ("/etc/hostname", "/etc/hosts", "/etc/mailname", "/etc/ssh/ssh_host_*")
    return (*always, "/home/olga", "/home/olga/**", *(hosts_own if role == "clone" else ()))
