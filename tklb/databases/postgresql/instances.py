"""The clusters of this machine, as postgresql-common lists them, and which of them is the default server.

Reads pg_lsclusters and start.conf, makes clusters. The default is the cluster with the lowest port among those that
start with the machine or run now: one that an upgrade left behind must not stand in the place of the live one. Sources:
pg_lsclusters(1), pg_createcluster(1).
"""

import os
import pwd
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tklb.base.fs import remove_tree
from tklb.base.process import run
from tklb.config.schema import DatabaseConfig
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import POSTGRESQL, FoundServer

__all__ = ["list_names", "make_instance"]

PROGRAMS = ("postgres",)  # as a process is called
_CONFIGURATION = Path("/etc/postgresql")
_PROGRAMS = Path("/usr/lib/postgresql")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,60}")
_SECONDS = 300  # to make a cluster


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster. `name` is VERSION/NAME; `lack` says why nobody expects it to run, `is_off` that it must not."""

    name: str
    port: str
    owner: str
    data: str
    is_running: bool = False
    lack: str = ""
    is_off: bool = False


def list_names(config: DatabaseConfig) -> tuple[FoundServer, ...]:
    """Give all clusters but the default one, and that one too where nobody expects it to run.

    Where the configuration names a service of libpq, that is the default server, and the clusters are its business.
    Raises DatabaseFailed.
    """
    if config.pgsql_service:
        return ()
    clusters = list_clusters()
    default = _choose_default(clusters)
    found = ((each, "" if each is default else each.name) for each in clusters)
    return tuple(FoundServer(name, each.lack, each.is_off) for each, name in found if name or each.is_off)


def make_instance(name: str) -> str:
    """Make the cluster VERSION/NAME, or one of that name of the newest version here; give its name, "" for none.

    Raises DatabaseFailed where its tool fails.
    """
    wanted, _, cluster = name.partition("/")
    if not (wanted.isdecimal() and _PLAIN.fullmatch(cluster)):
        return ""  # the name comes from a snapshot
    versions = sorted((each.name for each in _PROGRAMS.glob("[0-9]*") if _is_offered(each)), key=int)
    version = wanted if wanted in versions else next(reversed(versions), "")
    if not version or int(version) < int(wanted):
        return ""
    # in the locale that every machine has: each database brings its own
    command = ["pg_createcluster", "--locale=C.UTF-8", "--encoding=UTF8", version, cluster]
    try:
        with _keep_configuration(_CONFIGURATION / version / cluster):
            run(command, timeout=_SECONDS)
    except (ProgramFailed, ProgramMissing) as exc:
        raise DatabaseFailed(item=POSTGRESQL.word, reason=f"the cluster {version}/{cluster}: {exc}") from exc
    return f"{version}/{cluster}"


@contextmanager
def _keep_configuration(folder: Path) -> Iterator[None]:
    """Let a cluster be made whose configuration folder is there already: it lies beside meanwhile.

    pg_createcluster(1) refuses such a cluster. A whole configuration wins over the one that it makes.
    """
    if not folder.is_dir():
        yield
        return
    beside = folder.with_name(f".tklb-{folder.name}")
    os.rename(folder, beside)
    try:
        yield
    finally:
        _put_back(beside, folder)


def _put_back(beside: Path, folder: Path) -> None:
    """Put a configuration in its place again; a folder that is none stays beside, where it has anything in it."""
    if folder.is_dir() and (beside / "postgresql.conf").is_file():
        remove_tree(folder)
    if folder.is_dir():
        with suppress(OSError):
            beside.rmdir()
    else:
        os.rename(beside, folder)


def find_default() -> Cluster | None:
    """Find the cluster that is the default server. Raises DatabaseFailed."""
    return _choose_default(list_clusters())


def _choose_default(clusters: Sequence[Cluster]) -> Cluster | None:
    return next((each for each in clusters if not each.lack), clusters[0] if clusters else None)


def find_cluster(name: str) -> Cluster | None:
    """Find a cluster by VERSION/NAME; one of a newer version in its place, where only that has the name."""
    clusters = list_clusters()
    version, _, cluster = name.partition("/")
    newer = [each for each in clusters if each.name.partition("/")[2] == cluster and _is_newer(each, version)]
    exact = [each for each in clusters if each.name == name]
    return next(iter(exact or newer), None)


def list_clusters() -> tuple[Cluster, ...]:
    """All clusters whose data are there, the lowest port first. Raises DatabaseFailed."""
    return tuple(sorted(_read_clusters(), key=lambda each: int(each.port)))


def _read_clusters() -> list[Cluster]:
    try:
        output = run(["pg_lsclusters", "--no-header"], timeout=60).stdout.decode("utf-8", "surrogateescape")
    except ProgramMissing:
        return []
    except ProgramFailed as exc:
        reason = f"the clusters of this machine cannot be listed: {exc}"
        raise DatabaseFailed(item=POSTGRESQL.word, reason=reason) from exc
    rows = [line.split() for line in output.splitlines()]
    return [_read_row(row) for row in rows if len(row) >= 6 and row[2].isdigit() and _is_account(row[4])]


def _read_row(row: list[str]) -> Cluster:
    version, name, port, status, owner, data, *_ = row
    is_running = status.startswith("online")
    lack, is_off = "", False
    if "binaries_missing" in status:
        lack = f"it is down, and the programs of PostgreSQL {version} are not installed"
    elif not is_running and (start := _read_start(version, name)) != "auto":
        lack, is_off = f"it is down, and does not start with the machine ({start} in start.conf)", True
    return Cluster(f"{version}/{name}", port, owner, data, is_running, lack, is_off)


def _read_start(version: str, name: str) -> str:
    """Whether a cluster starts with the machine: auto, manual or disabled."""
    try:
        lines = (_CONFIGURATION / version / name / "start.conf").read_text("utf-8", "replace").splitlines()
    except OSError:
        return "auto"
    words = (line.partition("#")[0].strip() for line in lines)
    return next(filter(None, words), "auto")


def _is_newer(cluster: Cluster, version: str) -> bool:
    try:
        return float(cluster.name.partition("/")[0]) > float(version)
    except ValueError:
        return False


def _is_offered(version: Path) -> bool:
    return version.name.isdecimal() and os.access(version / "bin/initdb", os.X_OK)


def _is_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
