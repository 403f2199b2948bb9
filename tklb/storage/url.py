"""Addresses of targets: the kind of target and its place. Text in, a value out; touches nothing.

file:///FOLDER                          a folder of this machine
s3://BUCKET[/PREFIX]                    S3; endpoint and region as configured
s3+https://HOST[:PORT]/BUCKET[/PREFIX]  S3 at another service than Amazon's, or s3+http://
sftp://[USER@]HOST[:PORT]/[/]FOLDER     SSH; two slashes for an absolute folder, one for one below the home
SCHEME://...                            any other that duplicity has a backend for
"""

import re
from urllib.parse import unquote_to_bytes

from tklb.errors import UsageWrong
from tklb.model.target import TargetUrl

_EXAMPLE = "give one like file:///var/backups/tklb, s3://BUCKET/PREFIX or sftp://USER@HOST/FOLDER"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:([^@/]*)@)?(\[[0-9A-Fa-f:.%]+\]|[^@/:\[\]]*)(?::([0-9]{1,5}))?(/.*)?", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9{][A-Za-z0-9._{}-]{1,254}")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*")
_ALIASES = {"boto3+s3": "s3", "paramiko+sftp": "sftp"}


def parse_url(text: str) -> TargetUrl:
    """Parse an address. Raises UsageWrong, which says what to write and never repeats a password."""
    found = _SCHEME.fullmatch(text)
    if not found:
        raise UsageWrong(reason=f"`{_mask(text)}` is no target address: {_EXAMPLE}")
    _refuse_credentials(text, found[2])
    if not text.isprintable():
        raise UsageWrong(reason=f"a target address has printable characters only: {_EXAMPLE}")
    scheme = _ALIASES.get(found[1].lower(), found[1].lower())
    if scheme == "file":
        return TargetUrl("file", text, path=local_path(text))
    if scheme in ("s3", "s3+http", "s3+https"):
        return _parse_s3(text, scheme, found[2])
    return _parse_sftp(text, found[2]) if scheme == "sftp" else _parse_other(text, scheme, found[2])


def local_path(address: str) -> str:
    """The folder of a `file:///…` address. Raises UsageWrong for anything else."""
    rest = address[len("file://") :]
    if address[: len("file://")].lower() != "file://" or not rest.startswith("/"):
        raise UsageWrong(reason=f"`{_mask(address)}` names no absolute path (three slashes): {_EXAMPLE}")
    path = unquote_to_bytes(rest).decode("utf-8", "surrogateescape")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path:
        raise UsageWrong(reason=f"`{_mask(address)}` names no folder of its own: {_EXAMPLE}")
    return "/" + "/".join(parts)


def _refuse_credentials(text: str, rest: str) -> None:
    """Raise UsageWrong for a password: others read addresses in process lists, logs and configuration."""
    authority = rest.partition("/")[0]
    name, at, _ = authority.rpartition("@")
    has_odd_port = re.search(r":[^:\]]*[^0-9:\]][^:\]]*$", authority) and "@" in rest  # a slash in the password
    if (at and ":" in name) or has_odd_port:
        raise UsageWrong(
            reason=f"`{_mask(text)}` has a password in it; others see addresses: keep it in a file of mode 0600"
            " (tklb.toml(5) says which key names it for this kind of target)"
        )


def _parse_s3(text: str, scheme: str, rest: str) -> TargetUrl:
    endpoint = ""
    if scheme != "s3":
        host, _, rest = rest.partition("/")
        endpoint = f"{scheme.removeprefix('s3+')}://{host}"
    bucket, _, prefix = rest.partition("/")
    is_odd = not _BUCKET.fullmatch(bucket) or "@" in endpoint or endpoint.endswith("//")
    if is_odd or ".." in prefix.split("/"):
        raise UsageWrong(reason=f"`{_mask(text)}` is no S3 address: {_EXAMPLE}")
    path = "/".join(part for part in prefix.split("/") if part)
    return TargetUrl("s3", text, path=path, bucket=bucket, endpoint=endpoint)


def _parse_sftp(text: str, rest: str) -> TargetUrl:
    found = _AUTHORITY.fullmatch(rest)
    if not found or not found[2] or found[2].startswith("-") or (found[1] and not _USER.fullmatch(found[1])):
        raise UsageWrong(reason=f"`{_mask(text)}` is no SFTP address: {_EXAMPLE}")
    path = unquote_to_bytes((found[4] or "/")[1:]).decode("utf-8", "surrogateescape")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    port = int(found[3] or 0)
    if not parts or ".." in parts or "\0" in path or port > 65535:
        raise UsageWrong(reason=f"`{_mask(text)}` names no folder of its own: {_EXAMPLE}")
    folder = ("/" if path.startswith("/") else "") + "/".join(parts)
    return TargetUrl("sftp", text, path=folder, user=found[1] or "", host=found[2].strip("[]"), port=port)


def _parse_other(text: str, scheme: str, rest: str) -> TargetUrl:
    if not rest.strip("/") or any(character.isspace() for character in text):
        raise UsageWrong(reason=f"`{_mask(text)}` is no target address: {_EXAMPLE}")
    return TargetUrl(scheme, text.rstrip("/"))


def _mask(text: str) -> str:
    return re.sub(r"(:(?://)?[^/@:]*:).*@", r"\1***@", text, flags=re.DOTALL)
