"""/etc/tklb and the environment, read once into one frozen Config.

Unknown keys and wrong types are errors that name file and key. Nobody else reads the environment.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tklb.errors import ConfigInvalid, NotInitialised

DEFAULT_TARGET = "file:///var/backups/tklb"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are on this machine. The cache may be deleted at any time."""

    config: Path = Path("/etc/tklb")
    state: Path = Path("/var/lib/tklb")
    cache: Path = Path("/var/cache/tklb")
    log: Path = Path("/var/log/tklb")
    profiles: Path | None = None  # None: those that came with the program

    @property
    def toml(self) -> Path:
        return self.config / "tklb.toml"

    @property
    def overrides(self) -> Path:
        return self.config / "overrides"

    @property
    def secret(self) -> Path:
        return self.state / "secret"

    @property
    def host(self) -> Path:
        return self.state / "host"

    @property
    def profile(self) -> Path:
        return self.state / "profile"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger"

    @property
    def stage(self) -> Path:
        return self.state / "stage"

    @property
    def last(self) -> Path:
        """The records of the newest snapshot."""
        return self.state / "last"

    @property
    def last_run(self) -> Path:
        return self.state / "last-run.json"

    @property
    def local_files(self) -> Path:
        """Paths that a restore brought for packages which no source offers; they stay part of the delta."""
        return self.state / "local-files"

    @property
    def index(self) -> Path:
        return self.state / "index.mtree"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def own(self) -> tuple[bytes, ...]:
        """Folders that are never part of a delta."""
        return tuple(sorted(str(path).encode() for path in (self.state, self.cache, self.log)))


def paths_from(environment: Mapping[str, str]) -> Paths:
    """Read TKLB_CONFIG, TKLB_STATE, TKLB_CACHE, TKLB_LOG, TKLB_PROFILES."""
    named = {
        field: Path(environment[variable])
        for field in ("config", "state", "cache", "log", "profiles")
        if environment.get(variable := f"TKLB_{field.upper()}")
    }
    for path in named.values():
        if not path.is_absolute():
            raise ConfigInvalid(file="environment", reason=f"{path} is not an absolute path")
    return Paths(**named)


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """How database servers are asked. Where nothing is said, as the administrators that Debian sets up."""

    mysql_defaults_file: str = ""  # option file with the account to use, as clients read it
    pgsql_service: str = ""  # of pg_service.conf(5)
    lock_seconds: int = 60  # how long a locked table is waited for
    sqlite: bool = True  # copy SQLite databases that are open by SQLite's own means


@dataclass(frozen=True, slots=True)
class Config:
    target: str = DEFAULT_TARGET
    profile: str = ""  # id of the profile in use
    volume_megabytes: int = 100
    shards: int = 0  # duplicity processes side by side; 0: as many as pay
    overrides: tuple[str, ...] = ()  # the lines of /etc/tklb/overrides, comments left out
    databases: DatabaseConfig = DatabaseConfig()


_KEYS: dict[str, dict[str, type]] = {
    "target": {"url": str},
    "profile": {"id": str},
    "backup": {"volume_megabytes": int, "shards": int},
    "databases": {"mysql_defaults_file": str, "pgsql_service": str, "lock_seconds": int, "sqlite": bool},
}


def load(paths: Paths) -> Config:
    """Read the configuration of an initialised machine. Raises NotInitialised, ConfigInvalid."""
    if not paths.toml.exists():
        raise NotInitialised(reason=f"there is no {paths.toml}")
    values = _checked(paths.toml, _parsed(paths.toml))
    return Config(
        target=str(values.get("target.url", DEFAULT_TARGET)),
        profile=str(values.get("profile.id", "")),
        volume_megabytes=_between(paths.toml, values, "backup.volume_megabytes", (1, 100, 4000)),
        shards=_between(paths.toml, values, "backup.shards", (0, 0, 8)),
        overrides=read_overrides(paths.overrides),
        databases=_databases(paths.toml, values),
    )


def _databases(path: Path, values: Mapping[str, str | int]) -> DatabaseConfig:
    defaults = str(values.get("databases.mysql_defaults_file", ""))
    if defaults and not defaults.startswith("/"):
        raise ConfigInvalid(file=str(path), reason="`databases.mysql_defaults_file` must be an absolute path")
    return DatabaseConfig(
        mysql_defaults_file=defaults,
        pgsql_service=str(values.get("databases.pgsql_service", "")),
        lock_seconds=_between(path, values, "databases.lock_seconds", (1, 60, 3600)),
        sqlite=bool(values.get("databases.sqlite", True)),
    )


def read_overrides(path: Path) -> tuple[str, ...]:
    """The override lines of a file, without empty lines and comments; an absent file has none."""
    if not path.exists():
        return ()
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    return tuple(line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#"))


def render(config: Config) -> str:
    """The text of a tklb.toml that says the same."""
    return (
        "# Configuration of tklb; tklb.toml(5) lists every key.\n\n"
        f"[target]\nurl = {_quoted(config.target)}\n\n"
        f"[profile]\nid = {_quoted(config.profile)}\n\n"
        f"[backup]\nvolume_megabytes = {config.volume_megabytes}\n"
        f"# duplicity processes side by side; 0: as many as pay\nshards = {config.shards}\n"
    )


def _parsed(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigInvalid(file=str(path), reason=str(exc)) from exc
    except OSError as exc:
        raise ConfigInvalid(file=str(path), reason=exc.strerror) from exc


def _checked(path: Path, parsed: Mapping[str, object]) -> dict[str, str | int]:
    values: dict[str, str | int] = {}
    for section, content in parsed.items():
        if section not in _KEYS:
            raise ConfigInvalid(file=str(path), reason=f"unknown key `{section}`")
        if not isinstance(content, dict):
            raise ConfigInvalid(file=str(path), reason=f"`{section}` must be a table")
        for key, value in content.items():
            kind = _KEYS[section].get(key)
            if kind is None:
                raise ConfigInvalid(file=str(path), reason=f"unknown key `{section}.{key}`")
            if not isinstance(value, str | int) or type(value) is not kind:
                raise ConfigInvalid(file=str(path), reason=f"`{section}.{key}` must be of type {kind.__name__}")
            values[f"{section}.{key}"] = value
    return values


def _between(path: Path, values: Mapping[str, str | int], key: str, bounds: tuple[int, int, int]) -> int:
    low, default, high = bounds
    number = int(values.get(key, default))
    if not low <= number <= high:
        raise ConfigInvalid(file=str(path), reason=f"`{key}` must be between {low} and {high}")
    return number


def _quoted(text: str) -> str:
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{escaped}"'
