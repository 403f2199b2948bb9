"""Strategies: arbitrary names, entries and listings."""

from hypothesis import strategies as st

from tklb.diff.listing import Record
from tklb.diff.mtree import format_entry
from tklb.model.files import FileEntry

NASTY = b"a-/.*?[]\\#= \n\t\xff\xc3\xa9'\"~z"
COUNTS = st.integers(min_value=0, max_value=2**63)
TIMES = st.integers(min_value=-(10**19), max_value=10**19)
TEXTS = st.binary(min_size=1, max_size=12).map(lambda raw: raw.replace(b"\0", b"z"))
NAMES = st.one_of(
    st.lists(st.sampled_from([bytes((code,)) for code in NASTY if code != 0x2F]), min_size=1, max_size=4).map(b"".join),
    st.binary(min_size=1, max_size=6).map(lambda raw: raw.translate(None, b"\0/")),
).filter(lambda name: name not in (b"", b".", b".."))
PATHS = st.lists(NAMES, max_size=4).map(lambda names: b"/" + b"/".join(names))


def digests(length: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=length // 2, max_size=length // 2).map(bytes.hex)


XATTRS = st.dictionaries(TEXTS, st.binary(max_size=20), max_size=3).map(lambda some: tuple(sorted(some.items())))
ENTRIES = st.builds(
    FileEntry,
    path=PATHS,
    kind=st.sampled_from(("file", "dir", "link", "fifo", "block", "char")),
    mode=st.none() | st.integers(0, 0o7777),
    uid=st.none() | COUNTS,
    gid=st.none() | COUNTS,
    uname=st.none() | TEXTS,
    gname=st.none() | TEXTS,
    size=st.none() | COUNTS,
    mtime_ns=st.none() | TIMES,
    ctime_ns=st.none() | TIMES,
    link=st.none() | TEXTS,
    device=st.none() | st.tuples(COUNTS, COUNTS),
    dev=st.none() | COUNTS,
    ino=st.none() | COUNTS,
    nlink=st.none() | COUNTS,
    sha256=st.none() | digests(64),
    md5=st.none() | digests(32),
    xattrs=st.none() | XATTRS,
    sparse=st.booleans(),
    flags=st.none() | st.sampled_from(("a", "i", "ai")),
)


def record_of(entry: FileEntry) -> Record:
    return entry.path, format_entry(entry)
