"""The proxies that apt is set to use, and how apt does without those that this machine cannot reach.

Takes a root; gives settings and, for the time of a block, a private file of settings that wins over all others. A proxy
that cannot be reached would let every download fail. The files of the settings stay as they are.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

from tklb.base.process import run
from tklb.errors import ProgramFailed
from tklb.host.apt.command import run_apt
from tklb.lazy_dataclass import dataclass

_NAME = r"Acquire::(?:http|https|ftp)::(?:Proxy(?:::[^\s\"]+)?|Proxy-?Auto-?Detect)"
_SETTING = re.compile(rf'(?mi)^({_NAME}) "(.+)";$')
_PORTS = {"https": 443, "socks5h": 1080}
_SECONDS = 5  # to connect; what is further away is no proxy
_ASKED = "http://archive.invalid/"  # programs that find a proxy get the address that apt wants


@dataclass(frozen=True, slots=True)
class ProxyChoice:
    """Options for apt that make it use only proxies that answer, and the warnings of those that do not."""

    options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_proxies(root: bytes) -> Mapping[str, str]:
    """Give the proxies and the programs that find one, by the name of the setting. A malformed setting gives none."""
    with suppress(ProgramFailed):
        said = run_apt(root, ["apt-config", "dump"]).stdout.decode("utf-8", "replace")
        return {name: value for name, value in _SETTING.findall(said) if value.upper() not in ("DIRECT", "FALSE")}
    return {}


@contextmanager
def avoid_dead_proxies(root: bytes, before: Mapping[str, str]) -> Iterator[ProxyChoice]:
    """Give the options for the block. In place of a dead proxy apt uses the one from `before`, or none."""
    lines, warnings = [], []
    for name, value in read_proxies(root).items():
        if reason := _find_fault(root, value):
            former = before.get(name, "")
            usable = former if former not in ("", value) and not _find_fault(root, former) else ""
            lines.append(f'{name} "{usable or ("" if _is_program(value) else "DIRECT")}";\n')
            instead = f"the one of this machine ({_describe(usable)})" if usable else "none"
            warnings.append(
                f"apt cannot use its proxy {_describe(value)} here: {reason}; for this restore it uses {instead}"
            )
    if not lines:
        yield ProxyChoice()
        return
    with NamedTemporaryFile("w", prefix="tklb-apt-", suffix=".conf") as file:  # a proxy may have a password
        file.writelines(lines)
        file.flush()
        yield ProxyChoice(("-c", file.name), tuple(dict.fromkeys(warnings)))


def _is_program(value: str) -> bool:
    return value.startswith("/")


def _find_fault(root: bytes, value: str) -> str:
    """Give the reason why a proxy, or a program that finds one, is of no use; "" if it works."""
    if not _is_program(value):
        return _try_connection(value)
    place = os.path.join(root, os.fsencode(value.lstrip("/")))
    if not os.access(place, os.X_OK):
        return "that program is not here"
    inside: list[str | bytes] = [] if root == b"/" else ["chroot", root]
    try:
        said = run([*inside, value, _ASKED], timeout=_SECONDS).stdout.decode("utf-8", "replace").strip()
    except ProgramFailed as exc:
        return str(exc.facts["reason"])
    return _try_connection(said) if said and said.upper() != "DIRECT" else ""


def _try_connection(uri: str) -> str:
    try:
        parts = urlsplit(uri if "://" in uri else f"http://{uri}")
        port = parts.port or _PORTS.get(parts.scheme, 80)
        socket.create_connection((parts.hostname or "", port), _SECONDS).close()
    except (OSError, ValueError) as exc:
        return (getattr(exc, "strerror", None) or str(exc)).lower()
    return ""


def _describe(value: str) -> str:
    """Give a proxy without its user and password."""
    return re.sub(r"//[^/@]*@", "//", value)
