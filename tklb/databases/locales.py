"""The locales of this machine: what databases and settings of a server on it can have.

Asks and runs glibc's own programs, whose sources one list names; makes folders in /usr/lib/locale. Sources: locale(1),
localedef(1), setlocale(3).
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tklb.base.process import run
from tklb.errors import ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass

_FOLDERS = Path("/usr/lib/locale")
_ALIASES = "/usr/share/locale/locale.alias"
_SUPPORTED = (Path("/usr/share/i18n/SUPPORTED"), Path("/usr/local/share/i18n/SUPPORTED"))
_OWN_SOURCES = Path("/usr/local/share/i18n/locales")
_SECONDS = 600
SETTINGS = ("lc_messages", "lc_monetary", "lc_numeric", "lc_time")  # of PostgreSQL


@dataclass(frozen=True, slots=True)
class LocaleSource:
    """One locale that this machine can make, as SUPPORTED and /etc/locale.gen spell it."""

    name: str
    charset: str

    @property
    def spellings(self) -> frozenset[str]:
        """The names that it has for `locale -a`, in one spelling: with and without the charset."""
        place, at, variant = self.name.partition("@")
        place = place.partition(".")[0]
        return frozenset((spell_locale(self.name), spell_locale(f"{place}.{self.charset}{at}{variant}")))

    @property
    def input(self) -> str:
        """The source that it is made from."""
        place, at, variant = self.name.partition("@")
        bare = place.partition(".")[0] + at + variant
        own = _OWN_SOURCES / bare
        return str(own) if own.is_file() else bare


def spell_locale(name: str) -> str:
    """One spelling of a libc locale: en_US.UTF-8 and en_US.utf8 are the same one."""
    place, dot, codeset = name.partition(".")
    codeset, at, variant = codeset.partition("@")
    return place + dot + codeset.lower().replace("-", "") + at + variant


def list_locales() -> frozenset[str]:
    """List the locales of this machine, in one spelling; none where they cannot be listed."""
    try:
        output = run(["locale", "-a"]).stdout.decode("utf-8", "replace")
    except (ProgramFailed, ProgramMissing):
        return frozenset()
    return frozenset(map(spell_locale, output.split()))


def list_possible() -> frozenset[str]:
    """List the locales that this machine has or can make."""
    return list_locales().union(*(source.spellings for source in _read_sources(_SUPPORTED)))


def make_absent_locales(names: Iterable[str]) -> tuple[str, ...]:
    """Make the locales that this machine lacks; give notes for people. One that it cannot make stays absent."""
    wanted = {spell_locale(name) for name in names} - {"", "C", "POSIX"}
    return make_locales(wanted - list_locales()) if wanted else ()


def make_locales(names: Iterable[str]) -> tuple[str, ...]:
    """Make locales, each as a folder of its own; give notes for people.

    A server that runs looks into the archive of locales only once, and finds a new folder all the same.
    """
    return tuple(note for name in sorted(set(map(spell_locale, names))) for note in _make(name))


def _make(name: str) -> Iterator[str]:
    source = next((source for source in _read_sources(_SUPPORTED) if name in source.spellings), None)
    if source is None or (_FOLDERS / name).exists():
        return
    options = ["--no-archive", "-i", source.input, "-c", "-f", source.charset, "-A", _ALIASES]
    try:
        run(["localedef", *options, source.name], timeout=_SECONDS, accept=range(256))
    except (ProgramFailed, ProgramMissing) as exc:
        yield f"the locale {source.name} could not be made: {exc}"
        return
    for folder, _, files in os.walk(_FOLDERS / spell_locale(source.name)):
        os.chmod(folder, 0o755)  # noqa: S103 - all accounts read it; tklb makes files for itself alone
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
    if name in list_locales():
        yield f"made the locale {source.name}"


def _read_sources(lists: Iterable[Path]) -> Iterator[LocaleSource]:
    """Read lines of a locale and its charset."""
    text = "\n".join(file.read_text("utf-8", "replace") for file in lists if file.is_file())
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    yield from (LocaleSource(*words) for words in lines if len(words) == 2)
