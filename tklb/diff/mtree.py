"""mtree(5) v2.0 text <-> entries, streaming.

Takes lines and gives entries, or the reverse; touches nothing. A record of tklb is a line that every mtree reader
understands, and perhaps a comment line `#+ ...` after it, which other readers skip. That line has the fields without
an mtree(5) keyword: ctime, inode, extended attributes, holes. A record is complete: whole path, no /set.

Sources: mtree(5) of FreeBSD and libarchive, mtree(8) of NetBSD, and the output of their programs: the digits after
the dot of a time are an integer of nanoseconds, and both may write them without leading zeros.
"""

from collections.abc import Iterable, Iterator

from tklb.diff.keywords import (
    READ,
    READ_BESIDE,
    REPEATED,
    WRITTEN,
    WRITTEN_BESIDE,
    Keyword,
    escape,
    read_xattr,
    unescape,
    write_xattr,
)
from tklb.model.files import FileEntry

__all__ = ["EXTRA", "HEADER", "PARENT", "escape", "format_entry", "format_parent", "name_of", "parse", "unescape"]

HEADER = b"#mtree v2.0\n"
EXTRA = b"#+"  # starts the comment line of the entry above it
PARENT = b" tags=parent"  # the tag of a folder that is there only because mtree(8) wants every parent
_MOST_VALUES = 10_000
_SILENT = tuple(FileEntry._field_defaults.values())
_KIND, _SPARSE, _XATTRS = (FileEntry._fields.index(name) for name in ("kind", "sparse", "xattrs"))
_OURS = (b"./", EXTRA + b" ")  # how lines of tklb start
Value = tuple[int, object]  # place in an entry, value


def format_entry(entry: FileEntry, keywords: frozenset[str] | None = None) -> bytes:
    """Give the record of one entry, one or two lines.

    `keywords` limits it to some of: mode uid gid uname gname size time nlink link device sha256digest md5digest,
    ctime dev inode sparse xattr. The type is always there.
    """
    words = [name_of(entry.path), *_words(entry, WRITTEN, keywords)]
    extra = [*_words(entry, WRITTEN_BESIDE, keywords)]
    if entry.sparse and (keywords is None or "sparse" in keywords):
        extra.append(b"sparse")
    if entry.xattrs is not None and (keywords is None or "xattr" in keywords):
        extra += [write_xattr(name, value) for name, value in entry.xattrs] or [b"xattr=none"]
    line = b" ".join(words) + b"\n"
    return line + b" ".join([EXTRA, *extra]) + b"\n" if extra else line


def format_parent(path: bytes) -> bytes:
    """Give the record of a folder that is no entry; parse() leaves it out."""
    return name_of(path) + b" type=dir" + PARENT + b"\n"


def name_of(path: bytes) -> bytes:
    """Give the first word of the record of `path`."""
    return b"." if path == b"/" else b"." + escape(path)


def parse(lines: Iterable[bytes]) -> Iterator[FileEntry]:
    """Read a listing of tklb, bsdtar, NetBSD or FreeBSD, in its own order, without sockets.

    Raises ValueError with the number of the line.
    """
    reader = _ListingReader()
    for number, line in _join_continued(lines):
        try:
            entry = reader.take(line)
        except ValueError as exc:
            raise ValueError(f"line {number}: {exc}") from None
        if entry is not None:
            yield entry
    entry = reader.flush()
    if entry is not None:
        yield entry


def _words(entry: FileEntry, table: Iterable[Keyword], keywords: frozenset[str] | None) -> Iterator[bytes]:
    for name, place, write, _ in table:
        value = entry[place]
        if value is not None and (keywords is None or place == 1 or name.decode("ascii") in keywords):
            yield name + b"=" + write(value)


def _join_continued(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Join continued lines; leave out empty ones and comments that are not ours."""
    start, held = 0, b""
    for number, raw in enumerate(lines, 1):
        if not held and raw.startswith(_OURS) and raw[-2:-1] != b"\\":
            yield number, raw
            continue
        line = held + raw.rstrip(b"\r\n")
        if line.endswith(b"\\") and _is_continued(line):
            start, held = start or number, line[:-1] + b" "
            continue
        text = line.strip(b" \t")
        if text and (not text.startswith(b"#") or text.startswith(EXTRA + b" ")):
            yield start or number, text
        start, held = 0, b""
    if held.strip(b" \t"):
        yield start, held.strip(b" \t")


def _is_continued(line: bytes) -> bool:
    return not line.lstrip(b" \t").startswith(b"#") and (len(line) - len(line.rstrip(b"\\"))) % 2 == 1


class _ListingReader:
    """The state of reading: the folder of relative names, the defaults, and the entry that may get an extra line."""

    __slots__ = ("_defaults", "_folder", "_held", "_values")

    def __init__(self) -> None:
        self._folder = b""  # the root
        self._defaults: dict[bytes, bytes] = {}
        self._held: list[object] | None = None
        self._values: dict[bytes, Value] = {}  # of words that repeat

    def take(self, line: bytes) -> FileEntry | None:
        """Read one line; give the entry that is complete by it, if any."""
        first, *words = line.split()
        if first == EXTRA:
            self._add_extra(words)
        elif first == b"/set":
            self._defaults.update((_key(word), word) for word in words)
        elif first == b"/unset":
            for word in self._defaults.copy() if b"all" in words else words:
                self._defaults.pop(word, None)
        elif first == b"..":
            if not self._folder:
                raise ValueError("'..' leads out of the root")
            self._folder = self._folder[: self._folder.rfind(b"/")]
        else:
            done = self.flush()
            self._held = self._entry(first, words)
            return done
        return None

    def flush(self) -> FileEntry | None:
        held, self._held = self._held, None
        return None if held is None else FileEntry._make(held)

    def _entry(self, name: bytes, words: list[bytes]) -> list[object] | None:
        if self._defaults:
            words = [*{**self._defaults, **{_key(word): word for word in words}}.values()]
        fields: list[object] = [b"", "", *_SILENT]
        for word in words:
            place, value = self._values.get(word) or self._value(word)
            if place:
                fields[place] = value
        fields[0] = self._enter(unescape(name), is_folder=fields[_KIND] == "dir")
        if not fields[_KIND]:
            raise ValueError("an entry without a type")
        return None if fields[_KIND] == "socket" or PARENT.strip() in words else fields

    def _value(self, word: bytes) -> Value:
        """Read one word of an entry; place 0 is for words that tklb does not keep."""
        key, _, text = word.partition(b"=")
        keyword = READ.get(key)
        value = (keyword.place, _read(keyword, text)) if keyword else (0, None)
        if key in REPEATED and len(self._values) < _MOST_VALUES:
            self._values[word] = value
        return value

    def _enter(self, name: bytes, *, is_folder: bool) -> bytes:
        """Give the whole path of `name`, and remember the folder for later relative names."""
        path = name[1:] if name.startswith(b"./") else b""
        if not path or path.endswith(b"/") or b"//" in path or b"/." in path or b"\0" in path:
            path = self._join_name(name)
        self._folder = path if is_folder else path[: path.rfind(b"/")]
        return path or b"/"

    def _join_name(self, name: bytes) -> bytes:
        """Give the whole path of a name in any form."""
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b"\0" in name or b".." in parts:
            raise ValueError("a name with a NUL byte or with '..' in it")
        above = b"" if b"/" in name or not parts else self._folder
        return b"/".join([above, *parts])

    def _add_extra(self, words: list[bytes]) -> None:
        if self._held is None:
            return
        xattrs = []
        for word in words:
            keyword = READ_BESIDE.get(_key(word))
            if keyword is not None:
                self._held[keyword.place] = _read(keyword, word[len(keyword.name) + 1 :])
            elif word.startswith(b"xattr."):
                xattrs.append(read_xattr(word))
            elif word == b"sparse":
                self._held[_SPARSE] = True
        if xattrs or b"xattr=none" in words:
            self._held[_XATTRS] = tuple(sorted(xattrs))


def _key(word: bytes) -> bytes:
    return word.partition(b"=")[0]


def _read(keyword: Keyword, value: bytes) -> object:
    try:
        return keyword.read(value)
    except ValueError as exc:
        said = (keyword.name + b"=" + value[:80]).decode("ascii", "backslashreplace")
        raise ValueError(f"{said}: {exc}") from None
