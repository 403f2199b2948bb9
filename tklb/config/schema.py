"""Every key of tklb.toml, once: section, name, type, default, limits and its text in the manual.

Each field below that `key()` makes is one key. The parser, the checks, the file that `tklb init` writes and the key
reference of tklb.toml(5) all come from these fields. In a text, ** marks bold and * italic; each sentence has its line.
"""

import re
from collections.abc import Callable
from dataclasses import Field, field, fields, is_dataclass
from typing import Any, TypeVar

from tklb.config.rates import parse_rates
from tklb.lazy_dataclass import dataclass

DEFAULT_TARGET = "file:///var/backups/tklb"

Value = str | int | tuple[str, ...]
T = TypeVar("T", bound=Value)
_KIND_WORDS = {str: "string", int: "integer", bool: "boolean", tuple: "list of strings"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file.

    `attribute` is the field of the section's class, or of Config where `part` is empty. A number is `between` two
    others. Where there are `choices`, a text is one of them. `check` raises ValueError for a text that is wrong.
    """

    section: str
    name: str
    part: str
    attribute: str
    default: Value
    text: str
    between: tuple[int, int] | None = None
    choices: tuple[str, ...] = ()
    is_file: bool = False  # an absolute path, or empty
    check: Callable[[str], object] | None = None
    is_written: bool = False  # `tklb init` writes it with its default, too
    comment: str = ""  # for the line above it

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def kind(self) -> str:
        """Its type in the words of the manual."""
        return _KIND_WORDS[type(self.default)]


def key(default: T, text: str, *, path: str = "", **limits: object) -> T:
    """Make a field that is a key. `path` is `section.name`, where the class and the field do not say it."""
    return field(default=default, metadata={"path": path, "text": text, **limits})


def check_server(text: str) -> None:
    """Check the form of a configured server. Raises ValueError."""
    container = r"(docker|podman):[A-Za-z0-9][\w.-]*"
    mysql = rf"mysql@[A-Za-z0-9][\w.+-]*=(/.+|{container}(:/.+)?)"
    pgsql = rf"pgsql@[A-Za-z0-9][\w.+/-]*=({container}|[^/=:\s]+)"
    if not re.fullmatch(f"{mysql}|{pgsql}", text, re.ASCII):
        raise ValueError(f"{text!r} is not mysql@NAME=/FILE, pgsql@NAME=SERVICE or ENGINE@NAME=podman:CONTAINER")


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """[databases]: how tklb connects to database servers."""

    mysql_defaults_file: str = key(
        "",
        """Absolute path of an option file whose **[client]** group says how to log in, in the form that
        **mariadb**(1) reads.
        It may hold a password, so only root should be able to read it.
        Use an administrator's account: the backup lacks everything that the account cannot see.
        The default is none.""",
        is_file=True,
    )
    pgsql_service: str = key(
        "",
        """Name of a service of libpq that leads to the server, with a superuser's account.
        It is in */etc/postgresql-common/pg_service.conf* or */root/.pg_service.conf*.
        Without this key, the default server is the cluster with the lowest port among those that start with the
        machine.
        Every other cluster is a server of its own.
        The default is none.""",
    )
    servers: tuple[str, ...] = key(
        (),
        """Servers that tklb does not find by itself, for example in containers: a list of *ENGINE***@***NAME*=*LOGIN*.
        *LOGIN* is an option file as for **mysql_defaults_file**, or a service of libpq as for **pgsql_service**.
        An example is **["mysql@shop=/etc/tklb/shop.cnf", "pgsql@tracker=tracker"]**.
        *LOGIN* is also **docker:***CONTAINER* or **podman:***CONTAINER*.
        The client programs then run in that container.
        For MariaDB, an option file with user and password may follow, as in **docker:shop:/etc/tklb/shop.cnf**.
        PostgreSQL must trust connections through the socket in the container, as its official image does.
        Overrides and limits name the databases **mysql@shop:***DB*.""",
        check=check_server,
    )
    lock_seconds: int = key(
        60,
        """The time that tklb waits for a table that somebody else has locked, and for a free session of a full server.
        After that, a dump leaves out the table or the server, and a load gives up its database.
        tklb reports this and continues with the rest.""",
        between=(1, 3600),
    )
    read_back: bool = key(
        True,
        """If true, a restore reads the rows of each table back after loading and compares them with the dump.
        It names a table that differs. A database that is here already stays as it was then.
        If false, it only counts the rows.""",
    )
    sqlite: bool = key(
        True,
        """If true, tklb copies SQLite databases in use with SQLite's own backup.
        If false, it copies them like any file, and the copy may be inconsistent.""",
    )


@dataclass(frozen=True, slots=True)
class S3Config:
    """[s3]: how tklb connects to an S3 service."""

    endpoint: str = key(
        "",
        """URL of the service, if the address does not have it.
        **{region}** in it stands for the region.""",
    )
    region: str = key(
        "",
        """The region.
        **nearest** means the candidate that answers first.
        tklb measures this once and keeps the result in */var/lib/tklb/regions.json*, so that a chain never moves.
        **tklb status** shows the address with the region in it; use that address on a fresh machine.""",
    )
    candidates: tuple[str, ...] = key((), "The regions that **nearest** chooses from.")
    addressing: str = key(
        "auto",
        """**path** or **virtual** style of bucket addresses.
        **auto** means path style if there is an endpoint.""",
        choices=("auto", "path", "virtual"),
    )
    ca_file: str = key(
        "",
        "Absolute path of a PEM file with the certificate authorities to trust instead of Debian's.",
        is_file=True,
    )
    encryption: str = key(
        "",
        """The encryption that the service adds to tklb's own: **AES256** or **aws:kms**.
        By default the service decides.""",
        choices=("", "AES256", "aws:kms"),
    )
    kms_key: str = key("", "The key for **aws:kms**.")
    storage_class: str = key(
        "",
        """Storage class of the objects, for example **STANDARD_IA**; objects of this class must be readable without
        delay.""",
    )
    profile: str = key("", "The profile in the credentials file.")
    credentials_file: str = key(
        "",
        """Absolute path of a file of credentials in the form of the AWS tools, mode 0600.
        The default is */etc/tklb/credentials* if it exists; it comes before the environment.
        It may use **credential_process**.""",
        is_file=True,
    )
    proxy: str = key("", "URL of an HTTP proxy.")


@dataclass(frozen=True, slots=True)
class SftpConfig:
    """[sftp]: how tklb logs in to an SSH server."""

    identity_file: str = key(
        "",
        """Absolute path of the private key, mode 0600, without a passphrase.
        The default is *id_ed25519*, *id_ecdsa* and *id_rsa* in */root/.ssh*, and the keys of an agent.""",
        is_file=True,
    )
    known_hosts: str = key(
        "",
        """Absolute path of a file with the keys of known hosts, in the form of **sshd**(8).
        The default is */root/.ssh/known_hosts* and */etc/ssh/ssh_known_hosts*.
        tklb refuses a host that is not in them.""",
        is_file=True,
    )
    jump: str = key(
        "",
        """A host to go through, as *USER@HOST:PORT* or *HOST*, where this machine does not reach the server itself.
        The same keys and known hosts hold for it. tklb does not read *~/.ssh/config* and its **ProxyJump**.""",
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration: the keys of the file, and the lines of /etc/tklb/overrides."""

    target: str = key(
        DEFAULT_TARGET,
        """The address where tklb keeps snapshots; **tklb**(1) lists the kinds of addresses under TARGETS.
        Encode special characters of a path as in a URL, for example **%20** for a blank.
        In the address of an S3 target, **{region}** stands for the region.""",
        path="target.url",
        is_written=True,
    )
    limit_rate: str = key(
        "",
        """The rate limit for a distant target, uploads and downloads together.
        It is a number of bytes a second, as **500K** or **2M**.
        It can depend on the time of day of this machine, as in **"08:00,512K 18:00,off"**.
        The default is no limit.""",
        path="target.limit_rate",
        check=parse_rates,
    )
    patience: int = key(
        120,
        """The stall timeout in seconds.
        tklb ends a transfer that moves no byte for this time, and retries it.""",
        path="target.patience",
        between=(1, 86400),
    )
    environment_file: str = key(
        "",
        """Absolute path of a file, mode 0600, with lines *NAME*=*VALUE*.
        They are the environment of duplicity's own backends, including passwords.
        tklb uses the file for addresses other than **file**, **s3** and **sftp**.
        The variable of a password is **BACKEND_PASSWORD**.
        Write values without quotes.
        The default is */etc/tklb/environment* if it exists.""",
        path="target.environment_file",
        is_file=True,
    )
    profile: str = key(
        "",
        """The profile in use, as **tklb init** detected it.
        This key is for information only: tklb uses the copy in */var/lib/tklb/profile/*, so that the install state
        of existing snapshots never changes.
        To change the profile, run **tklb init --force --profile ID**.""",
        path="profile.id",
        is_written=True,
    )
    volume_megabytes: int = key(
        100,
        "Size of one encrypted volume.",
        path="backup.volume_megabytes",
        between=(1, 4000),
        is_written=True,
    )
    shards: int = key(
        0,
        """The number of duplicity processes that run side by side in a full backup.
        Each has a part of the files and its own chain.
        0 means that tklb chooses the fastest number.""",
        path="backup.shards",
        between=(0, 8),
        is_written=True,
        comment="duplicity processes side by side; 0: as many as pay",
    )
    keep_local: str = key(
        "none",
        """The volumes that stay in */var/cache/tklb/spool* after the upload to a distant target: **none**, those of
        the newest **chain**, or **all**.
        **tklb verify --mend** repairs the target from them.""",
        path="backup.keep_local",
        choices=("none", "chain", "all"),
    )
    uploads: int = key(
        4,
        "The number of volumes that tklb uploads or downloads at the same time.",
        path="backup.uploads",
        between=(1, 32),
    )
    databases: DatabaseConfig = DatabaseConfig()
    s3: S3Config = S3Config()
    sftp: SftpConfig = SftpConfig()
    overrides: tuple[str, ...] = ()  # the lines of /etc/tklb/overrides, without comments


# the paragraphs that the manual has above the keys of a section
INTRODUCTIONS = {
    "databases": """tklb finds the servers of this machine without any of these keys.
        It connects to MariaDB or MySQL as **root** through the socket.
        It connects to PostgreSQL as the system user that owns the cluster, **postgres**.""",
    "s3": """Without these keys, tklb finds endpoint, region and credentials as the AWS tools do.
        The sources are the environment, the files of */root/.aws* and the role of the instance.
        Files with credentials must belong to root, and nobody else may read them.
        The credentials must allow tklb to list the bucket, to get, put and delete objects, and to list and abort
        multipart uploads.
        **tklb init** also needs to create a bucket that does not exist.""",
}


def list_keys(schema: type[Config] = Config) -> tuple[Key, ...]:
    """All keys, in the order of the file: section by section."""
    keys = [_read_field("", one) for one in fields(schema) if one.metadata]
    parts = [(one.name, one.default) for one in fields(schema) if is_dataclass(one.default)]
    keys += [_read_field(name, one) for name, part in parts for one in fields(part)]
    sections = list(dict.fromkeys(key.section for key in keys))
    return tuple(sorted(keys, key=lambda key: sections.index(key.section)))


def _read_field(part: str, one: Field[Any]) -> Key:
    assert isinstance(one.default, str | int | tuple)
    limits = dict(one.metadata)
    section, _, name = (limits.pop("path") or f"{part}.{one.name}").partition(".")
    return Key(section, name, part, one.name, one.default, **limits)
