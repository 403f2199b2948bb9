"""A signed apt repository and loose packages of our own, made inside a box with dpkg-deb and gpg.

`repository_layer()` has it at /usr/share/acme (outside what profiles cover): machines of any release that lay it over
themselves can all reach it, as they could the same server on the network. The source line that uses it is the owner's
doing, see `used_server`. Touches /usr/share/acme of the box.

Packages: `acme-tools` needs `acme-common` (both in stable/), `acme-extra` (in extra/), `acme-agent` (offered nowhere,
a loose .deb with a conffile and a system user made by its postinst).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.lab.box import Box
from tests.lab.fixture_fs import FixtureFs
from tests.lab.roots import digest_of, layer, root

PLACE = b"/usr/share/acme"
CONTROL = """Package: {name}
Version: {version}
Architecture: all
Maintainer: Acme <acme@example.org>
Depends: {depends}
Section: misc
Priority: optional
Description: {name} of the Acme company
"""
AGENT_POSTINST = b"""#!/bin/sh
set -e
getent passwd acme-agent >/dev/null || useradd --system --user-group --home-dir /var/lib/acme-agent acme-agent
install -d -o acme-agent -g acme-agent /var/lib/acme-agent
"""


def repository_layer() -> Path:
    """The layer, one and the same (with one key) for clones of every profile."""
    return layer(f"acme {digest_of(__file__)}", [root("core")], make)


def make(box: Box) -> None:
    """Make both repositories, their keys and the loose package."""
    fs = FixtureFs(box.root)
    box.run(["gpg", "--batch", "--quick-gen-key", "--passphrase", "", "Acme archive", "ed25519", "sign", "never"])
    for options, name in (([], "acme.gpg"), (["--armor"], "acme.asc")):
        exported = box.run(["gpg", "--batch", *options, "--export"], text=False).stdout
        fs.file(PLACE + b"/" + name.encode(), exported)
    _repository(box, fs, "stable", [("acme-common", "1.2-1", "base-files"), ("acme-tools", "2.0-3", "acme-common")])
    _repository(box, fs, "extra", [("acme-extra", "0.9", "base-files")])
    agent = _source(fs, "acme-agent", "4.5.6-1", "base-files")
    fs.file(agent + b"/etc/acme-agent.conf", b"server = agents.example.org\n")
    fs.file(agent + b"/opt/acme-agent/bin/agent", b"#!/bin/sh\nexec sleep 1\n", 0o755)
    fs.file(agent + b"/DEBIAN/conffiles", b"/etc/acme-agent.conf\n")
    fs.file(agent + b"/DEBIAN/postinst", AGENT_POSTINST, 0o755)
    _pack(box, agent, PLACE + b"/acme-agent.deb")
    box.run(["rm", "-rf", "/root/.gnupg", "/usr/src/acme"])


def _source(fs: FixtureFs, name: str, version: str, depends: str) -> bytes:
    source = b"/usr/src/acme/" + name.encode()
    fs.file(source + b"/DEBIAN/control", CONTROL.format(name=name, version=version, depends=depends).encode())
    fs.file(source + b"/usr/bin/" + name.encode(), b"#!/bin/sh\necho %s\n" % name.encode(), 0o755)
    fs.file(source + b"/usr/share/doc/" + name.encode() + b"/copyright", b"Ours.\n")
    return source


def _pack(box: Box, source: bytes, target: bytes) -> None:
    box.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", source, target], env={"SOURCE_DATE_EPOCH": "0"})


def _repository(box: Box, fs: FixtureFs, name: str, packages: list[tuple[str, str, str]]) -> None:
    folder = fs.folder(PLACE + b"/" + name.encode())
    index = ""
    for package, version, depends in packages:
        file = f"{package}_{version}_all.deb"
        _pack(box, _source(fs, package, version, depends), folder + b"/" + file.encode())
        content = (box.root / "usr/share/acme" / name / file).read_bytes()
        index += CONTROL.format(name=package, version=version, depends=depends)
        index += f"Filename: {name}/{file}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"
    fs.file(folder + b"/Packages", index.encode())
    release = "Origin: Acme\nLabel: Acme\nSuite: " + name + "\nDate: Wed, 01 Jan 2025 00:00:00 UTC\nSHA256:\n"
    release += f" {hashlib.sha256(index.encode()).hexdigest()} {len(index)} Packages\n"
    signed = box.run(["gpg", "--batch", "--clearsign"], input=release)
    fs.file(folder + b"/InRelease", signed.stdout.encode())
