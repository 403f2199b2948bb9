"""Appliances: clones of clean roots that have started for the first time, with services, HTTP and tklb.

    with clone("lamp", hostname="a", tklb=True) as a:
        a.start("apache2")
        assert a.http_get("/").status == 200

A clone takes some tens of milliseconds; its changes are gone when the `with` ends. What is slow (host keys,
installing tklb) is made once and laid over the root as a layer. Takes and touches what `box` and `roots` do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import warm_tklb
from tests.lab.box import Box, Command, encode, end
from tests.lab.roots import allow_no_services, core_of, is_profile, layer, root

TREE = Path(__file__).parents[2]
INSTALLED = ("tklb", "profiles", "hooks", "man", "scripts/install", "requirements.txt", "pyproject.toml")
NOTE = "opt/tklb/packages"
RESOLVER = "10.0.2.3"  # slirp4netns answers there
# A server may keep the output of its script open as long as it runs: whoever reads a pipe to its end waits for ever.
START = 'file=/run/started.$$; "$1" start >$file 2>&1; status=$?; cat $file; exit $status'
GET = """
import json, sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Host": sys.argv[2]})
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.buffer.write(json.dumps([answer.status, dict(answer.headers)]).encode() + b"\\n" + answer.read())
"""


class Answer(NamedTuple):
    """What an HTTP server inside said."""

    status: int
    headers: dict[str, str]
    body: bytes


class Appliance(Box):
    """A running clone: `Box` with the things an administrator does to a server."""

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        input: str | bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        timeout: float | None = 300,
        text: bool = True,
    ) -> subprocess.CompletedProcess[Any]:
        """As `Box.run`; the machine's tklb is spared its start, see `warm_tklb`."""
        given, env = encode(input), env or {}
        if not warm_tklb.can_fork(self, command, env, given):
            return super().run(command, check=check, input=input, env=env, cwd=cwd, timeout=timeout, text=text)
        words = [os.fsdecode(word) for word in command[1:]]
        status, out, err = warm_tklb.run(self, words, env=env, cwd=cwd, given=given, timeout=timeout)
        return end(command, status, out, err, check, text)

    def start(self, *services: str) -> None:
        """Start services by their init scripts (there is no systemd inside); returns when they say they run."""
        for service in services:
            self.run(["sh", "-c", START, "sh", f"/etc/init.d/{service}"])

    def stop(self, *services: str) -> None:
        """Stop services by their init scripts."""
        for service in services:
            self.run([f"/etc/init.d/{service}", "stop"])

    def http_get(self, path: str, *, host: str = "localhost", port: int = 80) -> Answer:
        """Ask the appliance's own web server, from inside."""
        done = self.run(["python3", "-c", GET, f"http://127.0.0.1:{port}{path}", host], text=False)
        head, _, body = done.stdout.partition(b"\n")
        status, headers = json.loads(head)
        return Answer(status, headers, body)

    def install_tklb(self) -> None:
        """Run scripts/install on this very clone; `clone(tklb=True)` has the same for nothing."""
        install_tklb(self)


def clone(
    name: str,
    *,
    hostname: str = "a",
    tklb: bool = False,
    on: str = "memory",
    binds: Mapping[Path, str] | None = None,
    layers: Sequence[Path] = (),
) -> Appliance:
    """A machine of profile `name` (short name or id) that has just been installed; for a `with`.

    `tklb`: with the working tree's tklb installed. `binds`: host folders shared with it (a target of A and B).
    `layers`: more folders to lay over it, the topmost first; see `roots.layer`.
    """
    return Appliance([*layers, *stack(name, hostname, tklb=tklb)], hostname=hostname, on=on, binds=binds or {})


def stack(name: str, hostname: str, *, tklb: bool = False) -> tuple[Path, ...]:
    """The lower folders of a fresh machine, the topmost first."""
    if not tklb:
        return _started(name, hostname)
    return *tklb_layers(name), *prepare(name, hostname)


def prepare(name: str, hostname: str) -> tuple[Path, ...]:
    """The lower folders of a fresh machine that has the Debian packages which tklb needs, and not yet tklb."""
    started, clean = _started(name, hostname)
    return (started, clean) if is_profile(name) else (started, needs_layer(name), clean)


def _started(name: str, hostname: str) -> tuple[Path, Path]:
    clean = root(name)
    return layer(f"started-{hostname}", [clean], first_start, hostname), clean


def tklb_layer(name: str) -> Path:
    """The working tree's tklb, to be laid over any root of the same release: it is installed once, on the core's."""
    return layer(f"tklb {tree_digest()}", [root(core_of(name))], install_tklb_alone)


def tklb_layers(name: str) -> tuple[Path, ...]:
    """The same, and above it the note of the packages that came along, where they did."""
    if is_profile(name):
        return (tklb_layer(name),)
    lowers = [tklb_layer(name), needs_layer(name), root(name)]
    return layer("tklb-packages", lowers, lambda box: note_packages(box, lowers[1])), lowers[0]


def note_packages(box: Box, needs: Path) -> None:
    shutil.copy(needs / NOTE, box.root / NOTE)


def needs_layer(name: str) -> Path:
    """The Debian packages that the installer brings to a root which is no profile's, and its note of them."""
    installer = hashlib.sha256((TREE / "scripts/install").read_bytes()).hexdigest()
    return layer(f"needs {installer}", [root(name)], install_needs)


def packages_layer(name: str, hostname: str, *packages: str) -> Path:
    """What apt changes on a fresh machine when it installs packages, to lay over that machine; made once."""

    def install(box: Box) -> None:
        box.run(["apt-get", "-q", "update"], timeout=600)
        box.run(["apt-get", "-qy", "install", "--no-install-recommends", *packages], timeout=900)
        box.run(["apt-get", "clean"])

    return layer(f"more {' '.join(packages)}", prepare(name, hostname), install, hostname)


def first_start(box: Box) -> None:
    """What an installer and the first start give a machine: its identity, and a ban on starting services."""
    allow_no_services(box.root)
    name, etc = box.hostname, box.root / "etc"
    (etc / "hostname").write_text(f"{name}\n")
    (etc / "hosts").write_text(f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}.example.org\t{name}\n::1\tlocalhost\n")
    (etc / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    (etc / "machine-id").write_text(hashlib.md5(name.encode()).hexdigest() + "\n")
    disk = hashlib.sha1(name.encode()).hexdigest()
    (etc / "fstab").write_text(
        f"UUID={disk[:8]}-{disk[8:12]}-{disk[12:16]}-{disk[16:20]}-{disk[20:32]} / ext4 errors=remount-ro 0 1\n"
    )
    have_network(etc)
    if (box.root / "usr/bin/ssh-keygen").exists():
        box.run(["ssh-keygen", "-A"])
    if (box.root / "usr/sbin/make-ssl-cert").exists():
        box.run(["make-ssl-cert", "generate-default-snakeoil"])


def have_network(etc: Path) -> None:
    """The network's configuration, in the form of what is installed; a minimal machine has neither."""
    if (etc / "network").exists():
        (etc / "network/interfaces").write_text("auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n")
    if (etc / "netplan").exists():
        text = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n"
        (etc / "netplan/50-cloud-init.yaml").write_text(text)


def install_tklb(box: Box) -> None:
    """Put the working tree's tklb into a box with its own installer."""
    done = subprocess.run(
        [TREE / "scripts/install", "--root", box.root], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def install_needs(box: Box) -> None:
    """Install tklb and take it away again, but for the packages that came along."""
    install_tklb(box)
    box.run(["apt-get", "clean"])
    for name in ("opt/tklb/lib", "opt/tklb/share", "var/lib/tklb", "var/cache/tklb", "var/log/tklb", "etc/tklb"):
        shutil.rmtree(box.root / name, ignore_errors=True)
    for name in ("opt/tklb/stamp", "opt/tklb/manifest", "usr/local/bin/tklb"):
        (box.root / name).unlink()


def install_tklb_alone(box: Box) -> None:
    """The same, sure that nothing but tklb's own files came."""
    install_tklb(box)
    assert not (box.upper / "var/lib/dpkg").exists(), "packages came along, which other roots may have in another state"


@cache
def tree_digest() -> str:
    """Digest of all that the installer puts into a machine: it takes as long as the start of one."""
    digest = hashlib.sha256()
    for name in INSTALLED:
        top = TREE / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(TREE)} {path.stat().st_mode & 0o111} {content}\n".encode())
    return digest.hexdigest()
