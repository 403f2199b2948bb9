"""Machines with a database server, of either release: `database_clone("trixie", "mariadb", hostname="b")`.

Bookworm's come from their profiles' roots, trixie's from a layer over the core that apt made once. Takes and touches
what `appliance` and `roots` do; the server inside is started.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.lab.appliance import RESOLVER, Appliance, clone, first_start, tklb_layer
from tests.lab.box import Box
from tests.lab.roots import POLICY, allow_no_services, layer, root

BOOKWORM = {"mariadb": "lamp", "postgresql": "postgresql"}
TRIXIE = {"mariadb": ["mariadb-server"], "postgresql": ["postgresql", "postgresql-contrib"]}


@contextlib.contextmanager
def database_clone(
    release: str,
    engine: str,
    *,
    hostname: str = "a",
    tklb: bool = False,
    layers: Sequence[Path] = (),
    start: bool = True,
    **options: Any,
) -> Iterator[Appliance]:
    """A fresh machine of `release` ("bookworm" or "trixie") with `engine` ("mariadb" or "postgresql") running.

    Trixie's always has tklb, so that `inside.call` finds packages compiled for its Python. `start=False` leaves the
    server down. Everything else is as in `appliance.clone`.
    """
    with _machine(release, engine, hostname, tklb or release == "trixie", layers, options) as machine:
        if start:
            machine.start(engine)
        yield machine


def _machine(
    release: str, engine: str, hostname: str, tklb: bool, layers: Sequence[Path], options: dict[str, Any]
) -> Appliance:
    if release == "bookworm":
        return clone(BOOKWORM[engine], hostname=hostname, tklb=tklb, layers=layers, **options)
    assert release == "trixie", release
    lowers = [trixie_layer(engine), root("trixie-core")]
    stack = [layer(f"started-{hostname}", lowers, first_start, hostname), *lowers]
    if tklb:
        stack.insert(0, tklb_layer("trixie-core"))
    return Appliance([*layers, *stack], hostname=hostname, **options)


def trixie_layer(engine: str) -> Path:
    """What apt installs for `engine` on trixie's core, made once."""
    packages = TRIXIE[engine]

    def install(box: Box) -> None:
        (box.root / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        allow_no_services(box.root)
        box.run(["apt-get", "update"])
        box.run(["apt-get", "install", "-qy", "--no-install-recommends", *packages], timeout=900)
        box.run(["apt-get", "clean"])
        (box.root / "etc/resolv.conf").unlink()
        (box.root / POLICY).unlink()

    return layer(f"{engine}-trixie {' '.join(packages)}", [root("trixie-core")], install)
