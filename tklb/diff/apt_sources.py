"""Package sources: how they read, and which of a machine travel in a snapshot.

Takes the contents of apt's source files, one-line and deb822 (sources.list(5)); gives files to carry over. Pure.
Every machine has Debian's own `main` of its release, so this stays. All other sources travel; those that are in one
file with Debian's own travel in files named RESTORED.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from tklb.lazy_dataclass import dataclass
from tklb.model.packages import SourceFile

SOURCES = b"/etc/apt/sources.list"
SOURCE_FOLDER = b"/etc/apt/sources.list.d/"
RESTORED = SOURCE_FOLDER + b"tklb-restored"  # .list and .sources
AUTHORITIES = b"/usr/local/share/ca-certificates/"

CODENAMES: Mapping[str, str] = {
    "debian-10": "buster",
    "debian-11": "bullseye",
    "debian-12": "bookworm",
    "debian-13": "trixie",
    "debian-14": "forky",
    "ubuntu-20.04": "focal",
    "ubuntu-22.04": "jammy",
    "ubuntu-24.04": "noble",
    "ubuntu-26.04": "resolute",
}
_ONE_LINE = re.compile(r"(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)\s*(?:#.*)?")
# an archive of the past is no mirror: it offers other versions
_DEBIAN = re.compile(
    r"https?://(?!snapshot\.debian\.org)([a-z0-9.-]+\.debian\.org(:\d+)?/.*|[^/]+/debian(-security)?)", re.IGNORECASE
)
_DISK = re.compile(rb"[ \t]*deb(?:-src)?[ \t][^#]*?\bcdrom:|(?:.*\n)*URIs:.*\bcdrom:", re.IGNORECASE)
_OWN_KEYRING = re.compile(r"/usr/share/keyrings/debian-archive-[a-z0-9.-]+")


class PackageSource(NamedTuple):
    """One index that apt reads. A mirror of Debian counts as Debian."""

    kind: str  # deb, deb-src
    place: str
    suite: str
    component: str  # "" in a flat archive


@dataclass(frozen=True, slots=True)
class Stanza:
    """A line or a deb822 stanza of a source file. Fields have their deb822 names in lower case."""

    fields: Mapping[str, str]
    is_line: bool
    places: tuple[str, ...] = ()  # its URIs, with those in a mirror list in place of the list

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(self.fields.get(name, "").split())

    @property
    def is_debian(self) -> bool:
        """Whether it is Debian's own archive or a mirror of it."""
        signed = self.words("signed-by")
        are_mirrors = all(_DEBIAN.fullmatch(uri.rstrip("/")) or uri.startswith("mirror+") for uri in self.places)
        is_unknown = any(uri.startswith("mirror+") for uri in self.places)  # a list that cannot be read
        return are_mirrors and (bool(signed) or not is_unknown) and all(map(_OWN_KEYRING.fullmatch, signed))

    def is_mirror_for(self, release: str) -> bool:
        """Whether it is Debian's archive for a release, or a private mirror of it: signed by Debian, if at all."""
        codename, options = CODENAMES.get(release, ""), self.fields.get("options", "").split()
        if "trusted=yes" in options or self.fields.get("trusted", "").lower() == "yes":  # nobody signs it
            return False
        are_own = all(re.split(r"[-/]", suite)[0] == codename for suite in self.words("suites"))
        is_signed = all(map(_OWN_KEYRING.fullmatch, self.words("signed-by")))
        return self.is_debian or (are_own and is_signed and "main" in self.words("components"))

    @property
    def offers(self) -> frozenset[PackageSource]:
        places = {_name_archive(uri) if self.is_debian else uri.rstrip("/") for uri in self.places}
        return frozenset(
            PackageSource(kind, place, suite, component)
            for kind in self.words("types")
            for place in places
            for suite in self.words("suites")
            for component in self.words("components") or ("",)
        )

    @property
    def keyrings(self) -> tuple[bytes, ...]:
        """The files named in Signed-By."""
        return tuple(word.encode() for word in self.words("signed-by") if word.startswith("/"))

    def limit_to(self, suites: Iterable[str], components: Iterable[str]) -> "Stanza":
        changed = {"suites": " ".join(suites), "components": " ".join(components)}
        return replace(self, fields={**self.fields, **changed})

    def sign_by(self, other: "Stanza") -> "Stanza":
        """Take the keyring of another stanza: apt refuses two for one suite of one archive."""
        signed = other.fields.get("signed-by", "")
        if self.is_line and "BEGIN" in signed:  # a key that only a stanza can have in itself
            return self
        kept = [word for word in self.fields.get("options", "").split() if not word.startswith("signed-by=")]
        if self.is_line:
            words = [*kept, *([f"signed-by={','.join(signed.split())}"] if signed else ())]
            return replace(self, fields={**self.fields, "signed-by": signed, "options": " ".join(words)})
        fields = {name: value for name, value in self.fields.items() if name != "signed-by"}
        return replace(self, fields=fields | ({"signed-by": signed} if signed else {}))

    def text(self) -> str:
        if not self.is_line:
            return "".join(f"{name.title()}: {value}\n" for name, value in self.fields.items()) + "\n"
        options = self.fields.get("options", "")
        parts = [f"[{options}]" if options else "", *(self.fields[name] for name in ("uris", "suites", "components"))]
        return " ".join([self.fields["types"], *filter(None, parts)]) + "\n"


def _name_archive(uri: str) -> str:
    return "debian-security" if uri.rstrip("/").endswith("debian-security") else "debian"


def parse_stanzas(source: SourceFile, lists: Mapping[bytes, str] | None = None) -> tuple[Stanza, ...]:
    """Read the stanzas of a source file. Disabled, commented and malformed ones and CDs are left out.

    `lists` are the contents of mirror lists by path.
    """
    text = source.content.decode("utf-8", "replace")
    if source.path.endswith(b".sources"):
        found = map(_parse_deb822, re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)))
    else:
        found = map(_parse_line, text.split("\n"))
    known = (stanza for stanza in found if stanza is not None and "cdrom:" not in stanza.fields["uris"])
    return tuple(replace(stanza, places=tuple(_resolve(stanza, lists or {}))) for stanza in known)


def _resolve(stanza: Stanza, lists: Mapping[bytes, str]) -> Iterator[str]:
    for uri in stanza.words("uris"):
        listed = lists.get(name_mirror_list(uri), "")
        mirrors = [line.split()[0] for line in listed.splitlines() if line.strip() and not line.startswith("#")]
        yield from mirrors or [uri]


def name_mirror_list(uri: str) -> bytes:
    """Give the path of a mirror list on this machine (apt-transport-mirror(1)); b"" for any other URI."""
    match = re.fullmatch(r"mirror\+file:(?://)?(/\S+)", uri)
    return match[1].encode() if match else b""


def _parse_line(line: str) -> Stanza | None:
    match = _ONE_LINE.fullmatch(line.strip())
    if not match:
        return None
    kind, options, uri, suite, components = match.groups()
    named = dict(option.partition("=")[::2] for option in (options or "").split())
    signed = named.get("signed-by", "").replace(",", " ")
    fields = {"types": kind, "uris": uri, "suites": suite, "components": (components or "").strip()}
    return Stanza({**fields, "signed-by": signed, "options": (options or "").strip()}, is_line=True)


def _parse_deb822(text: str) -> Stanza | None:
    fields: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if line[:1] in (" ", "\t") and name:
            fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    if not all(fields.get(name) for name in ("types", "uris", "suites")):
        return None
    return (
        None if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off") else Stanza(fields, is_line=False)
    )


# ---------------------------------------------------------------- for the snapshot


def split_disks(source: SourceFile) -> tuple[SourceFile, tuple[str, ...]]:
    """Give a source file without its sources on disks (`cdrom:`), and these as text.

    apt has to read such a disk on each machine anew: apt-cdrom(8).
    """
    is_deb822 = source.path.endswith(b".sources")
    parts = re.split(rb"\n[ \t]*\n", source.content) if is_deb822 else source.content.splitlines(keepends=True)
    disks = [part for part in parts if _DISK.match(part)]
    if not disks:
        return source, ()
    rest = (b"\n\n" if is_deb822 else b"").join(part for part in parts if part not in disks)
    return replace(source, content=rest.rstrip(b"\n") + b"\n"), tuple(disk.decode("utf-8", "replace") for disk in disks)


def is_source(path: bytes) -> bool:
    return path == SOURCES or (path.startswith(SOURCE_FOLDER) and path.endswith((b".list", b".sources")))


def is_authority(path: bytes) -> bool:
    """Whether it is a certificate of a private CA, as update-ca-certificates(8) reads it."""
    return path.startswith(AUTHORITIES) and path.endswith(b".crt")


def read_mirror_lists(files: Iterable[SourceFile]) -> dict[bytes, str]:
    return {file.path: file.content.decode("utf-8", "replace") for file in files if not is_source(file.path)}


def extra_sources(files: Iterable[SourceFile], release: str) -> tuple[SourceFile, ...]:
    """Give the source files that travel from a machine of that release. `files` may have mirror lists. Sorted by path.

    A file without Debian's own sources travels as it is; of the others only the extra stanzas travel.
    """
    codename = CODENAMES.get(release, "")
    carried, lines, blocks = [], [], []
    every_file = tuple(files)
    lists = read_mirror_lists(every_file)
    for source in filter(lambda file: is_source(file.path), every_file):
        every = parse_stanzas(source, lists)
        extra = [part for stanza in every for part in _select_extra(stanza, codename)]
        if extra == list(every) and source.path != SOURCES:  # a disabled one too
            carried.append(source)
        else:
            lines += [stanza.text() for stanza in extra if stanza.is_line]
            blocks += [stanza.text() for stanza in extra if not stanza.is_line]
            (blocks if source.path.endswith(b".sources") else lines).extend(split_disks(source)[1])
    for end, texts in ((b".list", lines), (b".sources", blocks)):
        if texts:
            carried.append(SourceFile(RESTORED + end, "".join(texts).encode(), 0o644))
    return tuple(sorted(carried, key=lambda source: source.path))


def _select_extra(stanza: Stanza, codename: str) -> Iterator[Stanza]:
    """Give the part that is not Debian's `main` of the machine's own release."""
    if not stanza.is_debian:
        yield stanza
        return
    own = (codename, f"{codename}-updates", f"{codename}-security")
    usual = [suite for suite in stanza.words("suites") if suite in own]
    other = [suite for suite in stanza.words("suites") if suite not in own]
    components = stanza.words("components")
    if usual and (more := [name for name in components if name != "main"]):
        yield stanza.limit_to(usual, more)
    if other and not usual:
        yield stanza
    elif other:
        yield stanza.limit_to(other, components)
