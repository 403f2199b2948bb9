"""Clean root file systems, built from recipes with mmdebstrap and kept in a cache.

`root("lamp")` gives the folder, building it first where the cache lacks it (a minute for a core, less for what is
built on one). Recipes are those of the shipped profiles, and of `recipes/`: machines that nobody shaped for tklb.
A root's key is a digest of its recipe's [root] table, of its base's, of `packages.txt` and of `FORM`. Also keeps
*layers*: what some steps changed on top of a root, made once and laid over it ever after.
Touches: the cache below `LAB`, the Debian mirror the host's apt uses. Needs root.
By hand: `python3 -m tests.lab.roots [NAME]…` builds and prints the folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab import package_lists
from tests.lab.box import ENVIRONMENT, LAB, Box, remove_stray_clones

PROFILES = Path(__file__).parents[2] / "profiles"
RECIPES = Path(__file__).with_name("recipes")
SHORT = {
    "core": "debian-12-core",
    "lamp": "debian-12-lamp-wordpress",
    "postgresql": "debian-12-postgresql",
    "trixie-core": "debian-13-core",
}
FORM = 2  # raise it when what is built from the same recipe changes
EPOCH = "1735689600"  # 2025-01-01: what honours SOURCE_DATE_EPOCH (dates in shadow, …) says the same in every build
# Identity: a machine gets these when it first starts (or from its installer), a clean root has none of them.
BORN_LATER = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/fstab", "var/lib/dbus/machine-id")
UNUSED = 24 * 3600  # seconds
POLICY = "usr/sbin/policy-rc.d"
APT_READS = ("var/lib/dpkg/status", "var/lib/apt/lists", "etc/apt")


def root(name: str) -> Path:
    """The clean root file system of a profile id or short name; never to be written to."""
    recipe = _recipe(name)
    folder = LAB / "roots" / f"{recipe['id']}-{_key(recipe)}"
    with _making(folder) as draft:
        if draft is not None:
            _forget_unused(folder)
            _build(recipe, draft)
    return folder


def base_of(name: str) -> str:
    """The profile that a root is built on; its own where it is built on none."""
    return str(_recipe(name)["root"].get("base", name))


def core_of(name: str) -> str:
    """The profile of the same release that all others are built on."""
    return "core" if _recipe(base_of(name))["root"]["suite"] == "bookworm" else "trixie-core"


def is_profile(name: str) -> bool:
    """Whether a profile ships for it; other roots may lack what tklb needs."""
    return not (RECIPES / f"{name}.toml").exists()


def layer(key: str, lowers: Sequence[Path], make: Callable[[Box], object], hostname: str = "box") -> Path:
    """What `make(box)` changes on top of `lowers`, as a folder to lay over them; made once per key and lowers.

    The key's first word names the folder. Siblings of that name that nobody asked for in a day are removed.
    """
    digest = hashlib.sha256("\n".join([key, *map(str, lowers)]).encode()).hexdigest()[:16]
    folder = LAB / "layers" / f"{key.split(' ', maxsplit=1)[0]}-{digest}"
    with _making(folder) as draft:
        if draft is not None:
            _forget_unused(folder)
            _make_layer(lowers, make, hostname, draft)
    return folder


def _make_layer(lowers: Sequence[Path], make: Callable[[Box], object], hostname: str, draft: Path) -> None:
    box = Box(lowers, hostname=hostname, on="disk", steady=False, keep=True)
    try:
        with box:
            make(box)
            if any((box.upper / name).exists() for name in APT_READS):
                _cache_package_lists(box.root)
        box.upper.rename(draft)
    finally:
        shutil.rmtree(box.folder, ignore_errors=True)


def _cache_package_lists(top: Path) -> None:
    """Let apt make its cache of the package lists, or each clone makes it again, at two seconds of processor time."""
    if (top / "usr/bin/apt-cache").exists():
        subprocess.run(["chroot", top, "apt-cache", "gencaches"], check=True, capture_output=True)


def _forget_unused(folder: Path) -> None:
    for lock in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*.lock"):
        if time.time() - lock.stat().st_mtime > UNUSED:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def digest_of(*sources: str) -> str:
    """Digest of source files, for the key of a layer that they make."""
    return hashlib.sha256(b"".join(Path(source).read_bytes() for source in sources)).hexdigest()


def allow_no_services(folder: Path) -> None:
    """Package scripts inside must start nothing: there is no init to take care of it."""
    (folder / POLICY).write_text("#!/bin/sh\nexit 101\n")
    (folder / POLICY).chmod(0o755)


def _recipe(name: str) -> dict[str, Any]:
    own = RECIPES / f"{name}.toml"
    return tomllib.loads((own if own.exists() else PROFILES / SHORT.get(name, name) / "recipe.toml").read_text())


def _key(recipe: dict[str, Any]) -> str:
    base = recipe["root"].get("base")
    material = [recipe["root"], _key(_recipe(base)) if base else "", digest_of(str(package_lists.NAMES)), FORM]
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _making(folder: Path) -> Iterator[Path | None]:
    """Give a draft's path to fill while nobody else does, or None if `folder` is there; then rename it into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f"{folder.name}.draft")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:  # its mtime says when this was last asked for
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            yield None
            return
        shutil.rmtree(draft, ignore_errors=True)
        yield draft
        draft.rename(folder)


def _build(recipe: dict[str, Any], draft: Path) -> None:
    if "base" in recipe["root"]:
        _extend(recipe["root"], draft)
    else:
        _bootstrap(recipe["root"], draft)
    package_lists.shorten(draft)
    _cache_package_lists(draft)
    for name in BORN_LATER:
        (draft / name).unlink(missing_ok=True)
    (draft / "etc/machine-id").write_text("")


def _bootstrap(recipe: dict[str, Any], draft: Path) -> None:
    variant = recipe.get("variant", "important")
    options = ["--mode=root", "--format=directory", f"--variant={variant}", "--skip=cleanup/apt/lists"]
    options += [f"--include={package}" for package in recipe["packages"]]
    hooks = [f'--customize-hook=chroot "$1" {shlex.join(shlex.split(command))}' for command in recipe.get("setup", ())]
    # In a mount namespace of its own, so that nothing of the host's /dev is below the draft if this is killed.
    alone = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*alone, "mmdebstrap", *options, *hooks, recipe["suite"], os.fspath(draft)]
    command += _mirrors(recipe["suite"])
    done = subprocess.run(
        command, env=ENVIRONMENT | {"SOURCE_DATE_EPOCH": EPOCH}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"mmdebstrap failed:\n{done.stderr[-5000:]}")


def _mirrors(suite: str) -> list[str]:
    """The host's Debian sources, as one-line sources of `suite`; none leaves the choice to mmdebstrap."""
    listing = ["apt-get", "indextargets", "--format=deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]
    found = subprocess.run([*listing, "Created-By: Packages", "Origin: Debian"], capture_output=True, check=True)
    with Path("/etc/os-release").open() as lines:
        host = dict(line.rstrip().split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]
    return sorted({line.replace(f" {host}", f" {suite}") for line in found.stdout.decode().splitlines()})


def _extend(recipe: dict[str, Any], draft: Path) -> None:
    """Install on top of the base's root as an administrator would, then copy the whole out of the overlay."""
    epoch = {"SOURCE_DATE_EPOCH": EPOCH}
    with Box([root(recipe["base"])], hostname="localhost", on="disk") as box:
        shutil.copy("/etc/resolv.conf", box.root / "etc/resolv.conf")
        allow_no_services(box.root)
        for name, text in recipe.get("write", {}).items():
            (box.root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (box.root / name.lstrip("/")).write_text(text.lstrip())
        box.run(["apt-get", "update"])
        box.run(["apt-get", "install", "-qy", "--no-install-recommends", *recipe["packages"]], env=epoch, timeout=900)
        for command in recipe.get("setup", ()):
            box.run(shlex.split(command), env=epoch)
        box.run(["apt-get", "clean"])
        (box.root / POLICY).unlink()
        subprocess.run(["cp", "-a", "--one-file-system", box.root, draft], check=True)


if __name__ == "__main__":
    remove_stray_clones()
    names = sorted(sys.argv[1:] or SHORT, key=lambda name: base_of(name) != name)  # bases first, side by side
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for wanted, found in zip(names, pool.map(root, names), strict=True):
            print(wanted, found)
