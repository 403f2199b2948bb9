"""Set this machine up: key, host id, profile, configuration, and a target that was tried before it is relied on."""

import logging
from collections.abc import Callable
from dataclasses import replace

from tklb.backup.collect import collect_state
from tklb.backup.scope.outside import find_outside
from tklb.backup.target_key import has_passphrase, upload_key_file
from tklb.base.fs import run_lock
from tklb.config.parse import read_config_or_default
from tklb.config.paths import ROOT, Paths
from tklb.config.render import write_config
from tklb.config.schema import Config
from tklb.crypto.protection import write_protected_key
from tklb.crypto.secret import read_older
from tklb.errors import AlreadyInitialised, KeyUnusable, ProfileInvalid, TargetForeign, TklbError
from tklb.lazy_dataclass import dataclass
from tklb.ledger.read import read_ledger
from tklb.model.callbacks import Clock, Progress, ignore_progress
from tklb.model.report import OutsideItem
from tklb.model.secret import Secret
from tklb.profile.adopt import adopt_profile
from tklb.profile.detect import detect_profile
from tklb.profile.folder import Profile, find_profile
from tklb.profile.lint import lint_profile
from tklb.session import make_identity, open_session_with
from tklb.storage.backend import Backend
from tklb.storage.kinds import make_backend, open_backend
from tklb.storage.probe import TargetNotes, check_target

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InitRequest:
    """The options of `tklb init`. None: the configured target, the detected profile, no passphrase."""

    target: str | None = None
    profile: str | None = None  # id or folder
    passphrase: Callable[[], Secret] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class InitResult:
    """`is_wrapped`: the key has a passphrase, and the target keeps a copy of it."""

    config: Config
    is_wrapped: bool
    notes: TargetNotes = TargetNotes()
    outside: tuple[OutsideItem, ...] = ()  # of the owner's, and not taken


def initialise(paths: Paths, request: InitRequest, clock: Clock, progress: Progress = ignore_progress) -> InitResult:
    """Make key, host id, profile and configuration. Raises AlreadyInitialised, and what the target raises.

    An existing key is never replaced: what it has encrypted would be lost. The configuration is written last.
    """
    with run_lock(paths.lock):
        if paths.toml.exists() and not request.force:
            raise AlreadyInitialised(file=paths.toml)
        passphrase = request.passphrase() if request.passphrase else None
        profile = _choose_profile(paths, request)
        config = _configure(paths, request, profile)
        backend = make_backend(config.target, config, paths.regions)
        notes = check_target(open_backend(config.target, config, paths.regions), clock, paths.target_traits)
        secret = make_identity(paths)
        if passphrase or has_passphrase(paths, secret):
            _refuse_foreign(paths, backend, secret)
        if passphrase:
            write_protected_key(paths, secret, passphrase)
        adopt_profile(paths, profile.folder)
        write_config(paths.toml, config)
        if has_passphrase(paths, secret):
            upload_key_file(open_session_with(config, paths, clock))
            log.info("%s keeps a copy of the key, which the passphrase opens", backend.address)
    return InitResult(config, has_passphrase(paths, secret), notes, _find_outside(config, paths, clock, progress))


def _find_outside(config: Config, paths: Paths, clock: Clock, progress: Progress) -> tuple[OutsideItem, ...]:
    """Find what a backup would not take. What hinders this is no failure of the set-up: the backup will report it."""
    session = open_session_with(config, paths, clock, progress)
    try:
        state = collect_state(session)
        return find_outside(session, state.rules, state.found.unwalked)
    except TklbError as exc:
        log.warning("cannot tell what lies outside the scope: %s", exc)
        return ()


def _choose_profile(paths: Paths, request: InitRequest) -> Profile:
    """Raises ProfileInvalid."""
    if not request.profile:
        found = detect_profile(ROOT, paths.profiles)
        log.info("detected profile %s", found.id)
        return found
    profile = find_profile(paths.profiles, request.profile)
    if problems := lint_profile(profile.folder):
        raise ProfileInvalid(profile=request.profile, reason="; ".join(problems[:3]))
    log.info("profile %s", profile.id)
    return profile


def _configure(paths: Paths, request: InitRequest, profile: Profile) -> Config:
    """An existing configuration stays, apart from what the options change. Raises ConfigInvalid."""
    config = read_config_or_default(paths)
    return replace(config, target=config.target if request.target is None else request.target, profile=profile.id)


def _refuse_foreign(paths: Paths, backend: Backend, secret: Secret) -> None:
    """Where another key's snapshots are, this machine's key file would replace the one that opens them."""
    try:
        read_ledger(backend, secret, paths.ledger, read_older(paths.older_secrets))
    except KeyUnusable as exc:
        raise TargetForeign(address=backend.address, owner="another key") from exc
