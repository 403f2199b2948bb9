"""A package archive of one's own: .deb files made with dpkg-deb, and the flat index that apt reads.

Takes what packages shall be like, writes a folder; may serve it inside a machine; touches nothing else.
"""

import gzip
import hashlib
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.lab.box import Box


def deb(
    folder: Path,
    name: str,
    version: str = "1",
    *,
    files: Mapping[str, str] | None = None,
    conffiles: tuple[str, ...] = (),
    scripts: Mapping[str, str] | None = None,
    fields: str = "",
    templates: str = "",
    architecture: str = "all",
) -> Path:
    """Make a package; every file of it below /etc that is named in `conffiles` is one. `templates` are debconf's."""
    tree = folder / "build" / f"{name}-{version}"
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: A <a@example.org>\n"
        f"{fields}Description: {name}\n"
    )
    sums = []
    for path, text in (files or {f"/usr/share/{name}/README": f"{name} {version}\n"}).items():
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755 if text.startswith("#!") else 0o644)
        if path not in conffiles:
            sums.append(f"{hashlib.md5(text.encode()).hexdigest()}  {path.lstrip('/')}\n")
    (control / "md5sums").write_text("".join(sums))
    if conffiles:
        (control / "conffiles").write_text("".join(f"{path}\n" for path in conffiles))
    if templates:
        (control / "templates").write_text(templates)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", tree], check=True)
    for script, text in (scripts or {}).items():
        (control / script).write_text(f"#!/bin/sh\n{text}\n")
        (control / script).chmod(0o755)
    made = folder / f"{name}_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, stdout=subprocess.DEVNULL)
    return made


def index(folder: Path) -> None:
    """Write the index of all packages in a folder, for `deb [trusted=yes] file:FOLDER ./`."""
    stanzas = []
    for made in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "-f", made], check=True, capture_output=True, text=True).stdout
        content = made.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stanzas.append(f"{control}Filename: ./{made.name}\nSize: {len(content)}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(stanzas))
    (folder / "Packages.gz").write_bytes(gzip.compress((folder / "Packages").read_bytes()))


def suite(top: Path, name: str, pool: Path, architectures: tuple[str, ...], *, automatic: bool = True) -> None:
    """Publish the packages of a pool as a suite, for `deb [trusted=yes] URI NAME main`; `pool` is below `top`.

    From a suite that is not automatic, as backports are, apt takes nothing by itself.
    """
    stanzas: dict[str, list[str]] = {architecture: [] for architecture in architectures}
    for made in sorted(pool.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "-f", made], check=True, capture_output=True, text=True).stdout
        content = made.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stanza = f"{control}Filename: {made.relative_to(top)}\nSize: {len(content)}\nSHA256: {digest}\n"
        own = made.stem.rpartition("_")[2]
        for architecture in architectures:
            stanzas[architecture] += [stanza] if own in ("all", architecture) else []
    digests = []
    for architecture, texts in stanzas.items():
        index = top / "dists" / name / "main" / f"binary-{architecture}" / "Packages"
        index.parent.mkdir(parents=True)
        index.write_text("\n".join(texts))
        content = index.read_bytes()
        path = index.relative_to(top / "dists" / name)
        digests.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {path}\n")
    flag = "" if automatic else "NotAutomatic: yes\nButAutomaticUpgrades: yes\n"
    (top / "dists" / name / "Release").write_text(
        f"Origin: Own\nSuite: {name}\nCodename: {name}\nComponents: main\nArchitectures: {' '.join(architectures)}\n"
        f"Date: Wed, 01 Jan 2025 00:00:00 UTC\n{flag}SHA256:\n{''.join(digests)}"
    )


@contextmanager
def serve(machine: Box, program: str, port: int) -> Iterator[None]:
    """Run a server, a program in Python, on a machine's own loopback; it answers when the block begins."""
    server = machine.popen(["python3", "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
    try:
        while machine.run(["python3", "-c", probe], check=False).returncode:
            assert server.poll() is None
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()
