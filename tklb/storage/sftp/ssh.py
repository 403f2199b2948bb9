"""Connect by SSH: only to servers with a known host key, and only with a private key that nobody else can read.

Takes an address and the files of keys and known hosts; gives a connection that both sides have authenticated. Touches
these files and the network. It takes no password, asks nothing, and does not read ~/.ssh/config.
"""

import base64
import contextlib
import fnmatch
import hashlib
import hmac
import logging
import os
import pwd
import shlex
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from tklb.base.fs import is_plain
from tklb.config.schema import SftpConfig
from tklb.errors import AccessRefused, ConfigInvalid, TargetUnreachable, UsageWrong
from tklb.lazy_dataclass import dataclass
from tklb.model.target import TargetUrl
from tklb.storage.url import parse_url

PORT = 22
_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
_NO_BANNER = "Error reading SSH protocol banner"  # paramiko's words, also where it has waited in vain
_CONNECTING = 20  # seconds for each step until a session stands
_PATIENCE = 120  # seconds without an answer
_KEEP_ALIVE = 30
_WINDOW = 8 << 20  # bytes the server may send before it hears from us
_PACKET = 1 << 18
_MOST_AGENT_KEYS = 5  # a server lets nobody try more than six
_FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")  # one pass in C, where CTR with a MAC is two

Untyped = Any  # what paramiko makes: it has no types


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A line of known_hosts for one host. `algorithm` and `blob` are those of the key."""

    algorithm: str
    blob: bytes
    is_revoked: bool
    file: str


class Connection:
    """An authenticated connection to an SFTP server, for one thread at a time; close() may be called by any.

    Sending and receiving raise ConnectionError and TimeoutError.
    """

    def __init__(self, transport: Untyped, opened: contextlib.ExitStack) -> None:
        self._transport, self._opened = transport, opened
        self._channel: Untyped = transport.open_session(timeout=_CONNECTING)
        self._channel.settimeout(_PATIENCE)
        self._channel.invoke_subsystem("sftp")

    @property
    def is_alive(self) -> bool:
        return bool(self._transport.is_active()) and not self._channel.closed

    def sendall(self, data: bytes) -> None:
        with _explain_loss():
            self._channel.sendall(data)

    def recv(self, size: int) -> bytes:
        with _explain_loss():
            return bytes(self._channel.recv(size))

    def close(self) -> None:
        self._opened.close()


@dataclass(frozen=True, slots=True)
class _Login:
    """What this machine shows to servers, and the files of the hosts that it knows. `account` is the usual user."""

    keys: tuple[Untyped, ...]
    files: tuple[Path, ...]
    account: str
    asks_agent: bool


def connect(address: TargetUrl, config: SftpConfig, *, home: Path | None = None) -> Connection:
    """Connect to the server of an address. Raises TargetUnreachable, AccessRefused.

    `home` is the folder that holds `.ssh`; by default that of this account.
    """
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it prints the failures that it raises
    account = pwd.getpwuid(os.geteuid())
    folder = (home or Path(account.pw_dir)) / ".ssh"
    files = (Path(config.known_hosts),) if config.known_hosts else (folder / "known_hosts", _KNOWN_HOSTS)
    keys = tuple(_identities(config, folder))
    login = _Login(keys, files, account.pw_name, asks_agent=not config.identity_file)
    opened = contextlib.ExitStack()
    try:
        hop = _open_hop(_parse_jump(config.jump), login, opened) if config.jump else None
        with _explain_connect(address):
            transport = _open_transport(address, _open_stream(address, hop), login, opened)
            return Connection(transport, opened)
    except BaseException:
        opened.close()
        raise


def _parse_jump(text: str) -> TargetUrl:
    """The host to go through. Raises ConfigInvalid."""
    try:
        return parse_url(f"sftp://{text}/x")
    except UsageWrong as exc:
        raise ConfigInvalid(file="tklb.toml", reason=f"sftp.jump: `{text}` is no USER@HOST:PORT") from exc


def _open_hop(hop: TargetUrl, login: _Login, opened: contextlib.ExitStack) -> Untyped:
    with _explain_connect(hop):
        return _open_transport(hop, _open_stream(hop, None), login, opened)


def _open_stream(address: TargetUrl, hop: Untyped) -> Untyped:
    """A connection to the port of a server, by way of the transport `hop` if there is one."""
    place = (address.host, address.port or PORT)
    if hop is None:
        return socket.create_connection(place, timeout=_CONNECTING)
    return hop.open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=_CONNECTING)


def _open_transport(address: TargetUrl, stream: Untyped, login: _Login, opened: contextlib.ExitStack) -> Untyped:
    """Log in over an open connection, which ends with `opened`."""
    opened.callback(stream.close)
    known = find_known_keys(login.files, host_name(address))
    transport = paramiko.Transport(stream, default_window_size=_WINDOW, default_max_packet_size=_PACKET)
    opened.callback(transport.close)
    _agree(transport, known)
    _check_host(address, login.files[0], transport.get_remote_server_key(), known)
    _log_in(address, transport, address.user or login.account, login.keys, asks_agent=login.asks_agent)
    transport.set_keepalive(_KEEP_ALIVE)
    return transport


def host_name(address: TargetUrl) -> str:
    """The name of the server in known_hosts."""
    host = address.host.lower()
    return host if (address.port or PORT) == PORT else f"[{host}]:{address.port}"


def find_known_keys(files: Iterable[Path], name: str) -> tuple[KnownKey, ...]:
    """The keys of a host in known_hosts files (sshd(8)). Lines of another form are ignored, as ssh does.

    Raises AccessRefused for a file that cannot be read.
    """
    found = []
    for file in files:
        try:
            lines = file.read_text("utf-8", "backslashreplace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise AccessRefused(address=file, reason=exc.strerror) from exc
        found += [key for line in lines if (key := _known_key(line.split(), name, str(file)))]
    return tuple(found)


def _known_key(fields: list[str], name: str, file: str) -> KnownKey | None:
    marker, *rest = fields if fields and fields[0].startswith("@") else ["", *fields]
    return _parse_known_key(marker, rest, name, file)


def _parse_known_key(marker: str, fields: list[str], name: str, file: str) -> KnownKey | None:
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
        matches = _is_meant(fields[0], name)
    except ValueError:
        return None
    return KnownKey(fields[1], blob, marker == "@revoked", file) if matches else None


def _is_meant(patterns: str, name: str) -> bool:
    """Whether the first field of a line means a host; a matching pattern with `!` excludes the line."""
    if patterns.startswith("|1|"):
        salt, digest = (base64.b64decode(part, validate=True) for part in patterns[3:].split("|"))
        return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
    each = patterns.lower().split(",")
    if any(pattern.startswith("!") and _fits(name, pattern[1:]) for pattern in each):
        return False
    return any(_fits(name, pattern) for pattern in each if not pattern.startswith("!"))


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))  # brackets are no wildcards here


def fingerprint(blob: bytes) -> str:
    """The fingerprint of a key, as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _identities(config: SftpConfig, folder: Path) -> Iterator[Untyped]:
    """The private keys to try. Raises AccessRefused for one that others can read, or that is unusable."""
    if config.identity_file:
        yield _private_key(Path(config.identity_file))
        return
    yield from (_private_key(folder / name) for name in _IDENTITIES if (folder / name).exists())


def _private_key(path: Path) -> Untyped:
    try:
        status = os.stat(path)
        if not is_plain(status):
            raise AccessRefused(address=path, reason="it is no plain file")
        if status.st_uid != os.geteuid():
            raise AccessRefused(
                address=path, reason=f"it belongs to uid {status.st_uid}; a private key must be one's own"
            )
        if status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise AccessRefused(address=path, reason=f"others can read this private key (mode {mode}): `chmod 600` it")
        return paramiko.PKey.from_path(path)
    except OSError as exc:
        raise AccessRefused(address=path, reason=exc.strerror or str(exc)) from exc
    except (TypeError, paramiko.PasswordRequiredException) as exc:  # the former from the library below paramiko
        reason = (
            "this private key is encrypted, and nobody is there to ask; give tklb a key of its own without passphrase"
        )
        raise AccessRefused(address=path, reason=reason) from exc
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException, paramiko.UnknownKeyType) as exc:
        raise AccessRefused(address=path, reason="it is no private key that can be read") from exc


def _agree(transport: Untyped, known: tuple[KnownKey, ...]) -> None:
    """Agree on encryption. Prefer a host key that is known, where the server has several."""
    options = transport.get_security_options()
    algorithms = {name for key in known for name in _signatures(key.algorithm)}
    options.key_types = sorted(options.key_types, key=lambda name: name not in algorithms)
    options.ciphers = sorted(options.ciphers, key=lambda name: name not in _FAST)
    transport.start_client(timeout=_CONNECTING)


def _signatures(algorithm: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if algorithm == "ssh-rsa" else (algorithm,)


def _check_host(address: TargetUrl, file: Path, key: Untyped, known: tuple[KnownKey, ...]) -> None:
    blob = key.asbytes()
    seen = f"{key.get_name()} {fingerprint(blob)}"
    same = [one for one in known if one.blob == blob]
    if any(one.is_revoked for one in same):
        raise AccessRefused(address=address.text, reason=f"its host key {seen} is revoked in {same[0].file}")
    valid = [one for one in known if not one.is_revoked]
    if not valid:
        port = f"-p {address.port} " if address.port not in (0, PORT) else ""
        command = f"ssh-keyscan {port}{shlex.quote(address.host)} >> {shlex.quote(str(file))}"
        raise AccessRefused(
            address=address.text,
            reason=f"its host key is not known. It showed {seen}: if that is what `ssh-keygen -lf` says on the server"
            f" itself, add it by `{command}`",
        )
    if not any(one.blob == blob for one in valid):
        raise AccessRefused(
            address=address.text,
            reason=f"its host key has CHANGED: {valid[0].file} knows {valid[0].algorithm} {fingerprint(valid[0].blob)},"
            f" it showed {seen}. Somebody may stand between; nothing was sent. If the server was set up anew, remove"
            f" the old key by `ssh-keygen -f {shlex.quote(valid[0].file)} -R {shlex.quote(host_name(address))}`",
        )


def _log_in(address: TargetUrl, transport: Untyped, user: str, keys: tuple[Untyped, ...], *, asks_agent: bool) -> None:
    tried: list[str] = []
    with contextlib.closing(paramiko.Agent()) if asks_agent else contextlib.nullcontext() as agent:
        offered = agent.get_keys()[:_MOST_AGENT_KEYS] if agent else ()
        for key in (*keys, *offered):
            tried.append(f"{key.get_name()} {fingerprint(key.asbytes())}")
            if _is_accepted(address, transport, user, key):
                return
            if not transport.is_active():
                break
    reason = (
        f"it takes none of the keys for {user}: {', '.join(tried)}" if tried else "there is no private key to show it"
    )
    raise AccessRefused(address=address.text, reason=reason)


def _is_accepted(address: TargetUrl, transport: Untyped, user: str, key: Untyped) -> bool:
    """Whether the server accepts a key. Raises AccessRefused where it wants more than one."""
    try:
        more = transport.auth_publickey(user, key)
    except paramiko.BadAuthenticationType as exc:
        if "publickey" in exc.allowed_types:
            return False
        raise AccessRefused(address=address.text, reason=_describe_other_login(user, exc.allowed_types)) from exc
    except paramiko.AuthenticationException:
        return False
    if more:
        raise AccessRefused(address=address.text, reason=f"it wants more of {user} than a key: {', '.join(more)}")
    return True


def _describe_other_login(user: str, ways: Iterable[str]) -> str:
    names = ", ".join(name for name in ways if name in ("password", "keyboard-interactive", "hostbased"))
    return (
        f"it takes no key of {user}, only {names or 'what tklb does not know'}: have it take one; or use the address"
        " lftp+sftp://… with BACKEND_PASSWORD in /etc/tklb/environment"
    )


@contextlib.contextmanager
def _explain_loss() -> Iterator[None]:
    """Tell a broken connection from failures of files, which are OSErrors too."""
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, EOFError, paramiko.SSHException) as exc:
        raise ConnectionResetError(str(exc)) from exc


@contextlib.contextmanager
def _explain_connect(address: TargetUrl) -> Iterator[None]:
    """Turn a failure to connect into one of the target."""
    try:
        yield
    except socket.gaierror as exc:
        is_transient = exc.errno == socket.EAI_AGAIN
        raise TargetUnreachable(
            address=address.text, reason=f"{address.host}: {exc.strerror}", is_transient=is_transient
        ) from exc
    except paramiko.IncompatiblePeer as exc:
        raise TargetUnreachable(address=address.text, reason=f"no way of encryption in common: {exc}") from exc
    except (OSError, EOFError, paramiko.SSHException) as exc:
        reason = getattr(exc, "strerror", None) or str(exc) or "it ended the connection"
        if reason.startswith(_NO_BANNER):
            reason = "no SSH server answers there"
        raise TargetUnreachable(address=address.text, reason=reason, is_transient=True) from exc
