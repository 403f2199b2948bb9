"""The configuration as frozen values, with their defaults."""

from dataclasses import dataclass

DEFAULT_TARGET = "file:///var/backups/tklb"


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """How database servers are asked. Where nothing is said, as the administrators that Debian sets up."""

    mysql_defaults_file: str = ""  # option file with the account to use, as clients read it
    pgsql_service: str = ""  # of pg_service.conf(5)
    lock_seconds: int = 60  # how long a locked table is waited for
    sqlite: bool = True  # copy SQLite databases that are open by SQLite's own means


@dataclass(frozen=True, slots=True)
class S3Config:
    """How an S3 service is reached. Where nothing is said, as boto3 finds out by itself."""

    endpoint: str = ""  # URL; "": that of the region
    region: str = ""  # "nearest": the closest of the candidates, measured once
    candidates: tuple[str, ...] = ()  # regions; each stands for {region} in target.url and endpoint
    addressing: str = "auto"  # auto path virtual
    ca_file: str = ""  # certificates of a private authority, PEM
    encryption: str = ""  # at the service: AES256 or aws:kms; the volumes are encrypted anyway
    kms_key: str = ""
    storage_class: str = ""
    profile: str = ""  # of the credentials file
    credentials_file: str = ""  # as the AWS tools write it
    proxy: str = ""  # URL


@dataclass(frozen=True, slots=True)
class SftpConfig:
    """How an SSH server is asked. Where nothing is said, with root's own keys and known hosts."""

    identity_file: str = ""
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    target: str = DEFAULT_TARGET
    limit_rate: str = ""  # bytes a second, or a timetable; "": no limit
    patience: int = 120  # seconds without a byte after which a transfer has stalled
    environment_file: str = ""  # what duplicity's own back ends are told: NAME=VALUE lines, secrets among them
    profile: str = ""  # id of the profile in use
    volume_megabytes: int = 100
    shards: int = 0  # duplicity processes side by side; 0: as many as pay
    keep_local: str = "none"  # volumes kept on this machine once they are on a distant target: none, chain, all
    uploads: int = 4  # side by side
    overrides: tuple[str, ...] = ()  # the lines of /etc/tklb/overrides, comments left out
    databases: DatabaseConfig = DatabaseConfig()
    s3: S3Config = S3Config()
    sftp: SftpConfig = SftpConfig()
