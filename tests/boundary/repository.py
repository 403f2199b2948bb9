"""A package archive of one's own: .deb files made with dpkg-deb, and the flat index that apt reads.

Takes what packages shall be like, writes a folder; touches nothing else.
"""

import gzip
import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path


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
) -> Path:
    """Make a package; every file of it below /etc that is named in `conffiles` is one. `templates` are debconf's."""
    tree = folder / "build" / f"{name}-{version}"
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\n"
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
    made = folder / f"{name}_{version}_all.deb"
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
