"""Where tklb keeps its files on this machine."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from tklb.errors import ConfigInvalid
from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Paths:
    """Where tklb keeps its files on this machine. The cache may be deleted at any time."""

    config: Path = Path("/etc/tklb")
    state: Path = Path("/var/lib/tklb")
    cache: Path = Path("/var/cache/tklb")
    log: Path = Path("/var/log/tklb")
    profiles: Path | None = None  # None: the profiles that tklb ships

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
    def installation(self) -> Path:
        """The random part of the id of this installation."""
        return self.state / "installation"

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
        """The metadata of the newest snapshot."""
        return self.state / "last"

    @property
    def last_run(self) -> Path:
        return self.state / "last-run.json"

    @property
    def last_run_places(self) -> tuple[Path, ...]:
        """Where a backup notes how it ended: the first place that can be written. /run is in memory."""
        name = sha256(bytes(self.state)).hexdigest()[:12]
        return (self.last_run, self.log / self.last_run.name, Path(f"/run/tklb-{name}.json"))

    @property
    def local_files(self) -> Path:
        """Files that a restore wrote for packages that no source offers; they stay part of the delta."""
        return self.state / "local-files"

    @property
    def script_traces(self) -> Path:
        """What scripts of packages made when a restore installed them: install state of this machine."""
        return self.state / "script-traces.mtree"

    @property
    def remainder(self) -> Path:
        """The commands and services that a restore still has to run and to restart; the next restore does."""
        return self.state / "remainder.json"

    @property
    def trial(self) -> Path:
        """The configuration of a database server that a restore tries; after a kill, the next restore undoes that."""
        return self.state / "trial.json"

    @property
    def index(self) -> Path:
        return self.state / "index.mtree"

    @property
    def key_file(self) -> Path:
        """The key file, if the key has a passphrase; the target keeps a copy of it."""
        return self.state / "key.asc"

    @property
    def older_secrets(self) -> Path:
        """Earlier secrets, each in a file with its fingerprint as the name."""
        return self.state / "older-secrets"

    @property
    def older_key_files(self) -> Path:
        """Earlier key files: a new passphrase must open none of another key."""
        return self.state / "older-key-files"

    @property
    def key_copies(self) -> Path:
        """The list of the copies of the key: place and time of each."""
        return self.state / "key-copies.json"

    @property
    def pending_upload(self) -> Path:
        """A snapshot that is encoded and not yet sealed: its ledger entry and its metadata."""
        return self.state / "pending"

    @property
    def spool(self) -> Path:
        """Volumes on their way to a distant target, and those that stay afterwards."""
        return self.cache / "spool"

    @property
    def regions(self) -> Path:
        """The candidate region that answered first."""
        return self.state / "regions.json"

    @property
    def target_traits(self) -> Path:
        """What the target is, as far as tklb has found out by trying: whether a deletion there deletes."""
        return self.state / "target.json"

    @property
    def sample_turns(self) -> Path:
        """How far `tklb verify --sample` has got, by target."""
        return self.state / "sampled.json"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def own(self) -> tuple[bytes, ...]:
        """The folders of tklb itself, which are never part of a delta."""
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
