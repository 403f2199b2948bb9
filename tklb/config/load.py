"""/etc/tklb and the environment, read once into one frozen Config.

Unknown keys and wrong types are errors that name file and key. Nobody else reads the environment.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tklb.config.paths import Paths
from tklb.config.rates import parse_rates
from tklb.config.schema import DEFAULT_TARGET, Config, DatabaseConfig, S3Config, SftpConfig
from tklb.errors import ConfigInvalid, NotInitialised

_KEYS: dict[str, dict[str, type]] = {
    "target": {"url": str, "limit_rate": str, "patience": int, "environment_file": str},
    "profile": {"id": str},
    "backup": {"volume_megabytes": int, "shards": int, "keep_local": str, "uploads": int},
    "databases": {"mysql_defaults_file": str, "pgsql_service": str, "lock_seconds": int, "sqlite": bool},
    "s3": {
        "endpoint": str,
        "region": str,
        "candidates": list,
        "addressing": str,
        "ca_file": str,
        "encryption": str,
        "kms_key": str,
        "storage_class": str,
        "profile": str,
        "credentials_file": str,
        "proxy": str,
    },
    "sftp": {"identity_file": str, "known_hosts": str},
}
_WORDS = {
    "backup.keep_local": ("none", "chain", "all"),
    "s3.addressing": ("auto", "path", "virtual"),
    "s3.encryption": ("", "AES256", "aws:kms"),
}
_FILES = (
    "databases.mysql_defaults_file", "target.environment_file", "s3.ca_file", "s3.credentials_file",
    "sftp.identity_file", "sftp.known_hosts",
)  # fmt: skip
Value = str | int | tuple[str, ...]


def load(paths: Paths) -> Config:
    """Read the configuration of an initialised machine. Raises NotInitialised, ConfigInvalid."""
    if not paths.toml.exists():
        raise NotInitialised(reason=f"there is no {paths.toml}")
    values = _checked(paths.toml, _parsed(paths.toml))
    text = _Texts(values)
    return Config(
        target=str(values.get("target.url", DEFAULT_TARGET)),
        limit_rate=text["target.limit_rate"],
        patience=_between(paths.toml, values, "target.patience", (1, 120, 86400)),
        environment_file=text["target.environment_file"],
        profile=text["profile.id"],
        volume_megabytes=_between(paths.toml, values, "backup.volume_megabytes", (1, 100, 4000)),
        shards=_between(paths.toml, values, "backup.shards", (0, 0, 8)),
        keep_local=text["backup.keep_local"] or "none",
        uploads=_between(paths.toml, values, "backup.uploads", (1, 4, 32)),
        overrides=read_overrides(paths.overrides),
        databases=_databases(paths.toml, values),
        s3=_s3(values),
        sftp=SftpConfig(text["sftp.identity_file"], text["sftp.known_hosts"]),
    )


def load_or_default(paths: Paths) -> Config:
    """The configuration; that of a machine where nobody set anything, if there is none."""
    return load(paths) if paths.toml.exists() else Config()


class _Texts(dict[str, Value]):
    """Values by key; one that is not said is empty."""

    def __getitem__(self, key: str) -> str:
        return str(self.get(key, ""))


def _databases(path: Path, values: Mapping[str, Value]) -> DatabaseConfig:
    text = _Texts(values)
    return DatabaseConfig(
        mysql_defaults_file=text["databases.mysql_defaults_file"],
        pgsql_service=text["databases.pgsql_service"],
        lock_seconds=_between(path, values, "databases.lock_seconds", (1, 60, 3600)),
        sqlite=bool(values.get("databases.sqlite", True)),
    )


def _s3(values: Mapping[str, Value]) -> S3Config:
    said = {key.removeprefix("s3."): value for key, value in values.items() if key.startswith("s3.")}
    return S3Config(**said)  # type: ignore[arg-type]


def read_overrides(path: Path) -> tuple[str, ...]:
    """The override lines of a file, without empty lines and comments; an absent file has none."""
    if not path.exists():
        return ()
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    return tuple(line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#"))


def render(config: Config) -> str:
    """The text of a tklb.toml that says the same: what every machine has, and what is not as it is by default."""
    sections = {
        "target": [f"url = {_quoted(config.target)}", *_said(config, ("limit_rate", "patience", "environment_file"))],
        "profile": [f"id = {_quoted(config.profile)}"],
        "backup": [
            f"volume_megabytes = {config.volume_megabytes}",
            "# duplicity processes side by side; 0: as many as pay",
            f"shards = {config.shards}",
            *_said(config, ("keep_local", "uploads")),
        ],
        **{name: _said(part, tuple(_KEYS[name])) for name, part in _parts(config).items()},
    }
    texts = ("\n".join((f"[{name}]", *lines, "")) for name, lines in sections.items() if lines)
    return "# Configuration of tklb; tklb.toml(5) lists every key.\n\n" + "\n".join(texts)


def _parts(config: Config) -> dict[str, object]:
    return {"databases": config.databases, "s3": config.s3, "sftp": config.sftp}


def _said(part: object, names: Iterable[str]) -> list[str]:
    """Lines for what is not as it is by default."""
    default = type(part)()
    values = ((name, getattr(part, name)) for name in names)
    return [f"{name} = {_toml(value)}" for name, value in values if value != getattr(default, name)]


def _toml(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_quoted, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(value)


def _parsed(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigInvalid(file=str(path), reason=str(exc)) from exc
    except OSError as exc:
        raise ConfigInvalid(file=str(path), reason=exc.strerror) from exc


def _checked(path: Path, parsed: Mapping[str, object]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for section, content in parsed.items():
        if section not in _KEYS:
            raise ConfigInvalid(file=str(path), reason=f"unknown key `{section}`")
        if not isinstance(content, dict):
            raise ConfigInvalid(file=str(path), reason=f"`{section}` must be a table")
        for key, value in content.items():
            kind = _KEYS[section].get(key)
            if kind is None:
                raise ConfigInvalid(file=str(path), reason=f"unknown key `{section}.{key}`")
            values[f"{section}.{key}"] = _value(path, f"{section}.{key}", value, kind)
    return values


def _value(path: Path, key: str, value: object, kind: type) -> Value:
    if type(value) is not kind:
        raise ConfigInvalid(file=str(path), reason=f"`{key}` must be of type {kind.__name__}")
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise ConfigInvalid(file=str(path), reason=f"`{key}` must be a list of texts")
        return tuple(value)
    if key in _WORDS and value not in _WORDS[key]:
        words = ", ".join(word or '""' for word in _WORDS[key])
        raise ConfigInvalid(file=str(path), reason=f"`{key}` must be one of {words}")
    if key in _FILES and value and not str(value).startswith("/"):
        raise ConfigInvalid(file=str(path), reason=f"`{key}` must be an absolute path")
    if key == "target.limit_rate" and value:
        _check_rates(path, key, str(value))
    assert isinstance(value, str | int)
    return value


def _check_rates(path: Path, key: str, value: str) -> None:
    try:
        parse_rates(value)
    except ValueError as exc:
        raise ConfigInvalid(file=str(path), reason=f"`{key}`: {exc}") from exc


def _between(path: Path, values: Mapping[str, Value], key: str, bounds: tuple[int, int, int]) -> int:
    low, default, high = bounds
    number = values.get(key, default)
    if not isinstance(number, int) or not low <= number <= high:
        raise ConfigInvalid(file=str(path), reason=f"`{key}` must be between {low} and {high}")
    return number


def _quoted(text: str) -> str:
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{escaped}"'
