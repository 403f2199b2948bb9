"""Where tklb keeps its files on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tklb.errors import ConfigInvalid


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
    def key_file(self) -> Path:
        """The key file, there where the key has a passphrase: what the target keeps a copy of."""
        return self.state / "key.asc"

    @property
    def older_secrets(self) -> Path:
        """Secrets before the last change of the key, each in a file named after its fingerprint."""
        return self.state / "older-secrets"

    @property
    def key_copies(self) -> Path:
        """Where copies of the key were written to, and when."""
        return self.state / "key-copies.json"

    @property
    def pending(self) -> Path:
        """A set that is encoded and not yet sealed: its record, and the stage it was made from."""
        return self.state / "pending"

    @property
    def spool(self) -> Path:
        """Volumes on their way to a distant target, and those kept afterwards."""
        return self.cache / "spool"

    @property
    def regions(self) -> Path:
        """Which of the candidates was found to be nearest."""
        return self.state / "regions.json"

    @property
    def sampled(self) -> Path:
        """How far the rotating share of `tklb verify --sample` has got."""
        return self.state / "sampled.json"

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


ROOT = b"/"
