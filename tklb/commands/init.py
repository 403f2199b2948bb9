"""Set a machine up: key, host id, profile, configuration, and a target that was tried before anything relies on it."""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from tklb.backup.target_key import has_passphrase, upload_key_file
from tklb.base.fs import private_folder, run_lock, write_atomic
from tklb.commands.key import write_protected
from tklb.commands.status import check_target
from tklb.config.parse import read_config_or_default
from tklb.config.paths import ROOT, Paths
from tklb.config.render import render_config
from tklb.config.schema import Config
from tklb.crypto.secret import make_secret, read_older, read_secret, write_secret
from tklb.errors import AlreadyInitialised, KeyUnusable, ProfileInvalid, TargetForeign
from tklb.ledger.read import read_ledger
from tklb.model.callbacks import Clock
from tklb.model.secret import Secret
from tklb.profile.adopt import adopt_profile
from tklb.profile.detect import detect_profile
from tklb.profile.folder import Profile, find_profile
from tklb.profile.lint import lint_profile
from tklb.session import open_session_with
from tklb.storage.backend import Backend
from tklb.storage.kinds import make_backend


@dataclass(frozen=True, slots=True)
class InitRequest:
    """What somebody who sets a machine up wants. None: as it is configured, detected, without a passphrase."""

    target: str | None = None
    profile: str | None = None  # id or folder
    passphrase: Callable[[], Secret] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class InitResult:
    """`is_wrapped`: the key has a passphrase, and the target keeps a copy. `oddities` are worth a word each."""

    config: Config
    is_wrapped: bool
    oddities: tuple[str, ...] = ()


def initialise(paths: Paths, wishes: InitRequest, clock: Clock) -> InitResult:
    """Make key, host id, profile and configuration. Raises AlreadyInitialised, and what the target raises.

    An existing key is never replaced: what it has encrypted would be lost. The configuration is written last.
    """
    with run_lock(paths.lock):
        if paths.toml.exists() and not wishes.force:
            raise AlreadyInitialised(file=paths.toml)
        passphrase = wishes.passphrase() if wishes.passphrase else None
        profile = _named(paths, wishes.profile) if wishes.profile else detect_profile(ROOT, paths.profiles)
        config = _config(paths, wishes, profile)
        target = make_backend(config.target, config, paths.regions)
        oddities = check_target(paths, config, clock)
        secret = _key(paths)
        if passphrase or has_passphrase(paths, secret):
            _refuse_foreign(paths, target, secret)
        if passphrase:
            write_protected(paths, secret, passphrase)
        adopt_profile(paths, profile.folder)
        paths.config.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(paths.toml, render_config(config).encode())
        if has_passphrase(paths, secret):
            upload_key_file(open_session_with(config, paths, clock))
    return InitResult(config, has_passphrase(paths, secret), oddities)


def _config(paths: Paths, wishes: InitRequest, profile: Profile) -> Config:
    """What is configured already stays, but for what is wished."""
    config = read_config_or_default(paths)
    return replace(config, target=config.target if wishes.target is None else wishes.target, profile=profile.id)


def _key(paths: Paths) -> Secret:
    private_folder(paths.state)
    if not paths.secret.exists():
        write_secret(paths.secret, make_secret(os.urandom))
    if not paths.host.exists():
        write_atomic(paths.host, f"{uuid.uuid4().hex}\n".encode())
    return read_secret(paths.secret)


def _refuse_foreign(paths: Paths, target: Backend, secret: Secret) -> None:
    """Where another key's snapshots are, this machine's key file would take the place of the one that opens them."""
    try:
        read_ledger(target, secret, paths.ledger, read_older(paths.older_secrets))
    except KeyUnusable as exc:
        raise TargetForeign(address=target.address, owner="another key") from exc


def _named(paths: Paths, name: str) -> Profile:
    profile = find_profile(paths.profiles, name)
    if problems := lint_profile(profile.folder):
        raise ProfileInvalid(profile=name, reason="; ".join(problems[:3]))
    return profile
