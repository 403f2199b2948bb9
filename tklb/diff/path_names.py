"""What names of files say by their text: whether a path is plain, where a link leads, which names a mail has. Pure."""


def resolve_link(path: bytes, link: bytes) -> bytes:
    """Give the plain absolute path that the text `link` of the symbolic link `path` names.

    This is exact where no folder above is a link itself.
    """
    whole = link if link.startswith(b"/") else path.rpartition(b"/")[0] + b"/" + link
    names: list[bytes] = []
    for name in whole.split(b"/"):
        if name == b"..":
            names = names[:-1]
        elif name not in (b"", b"."):
            names.append(name)
    return b"/" + b"/".join(names)


def is_message(path: bytes) -> bool:
    """Whether `path` has the name of a message in a Maildir: a file in its folder `new` or `cur`."""
    return path.rpartition(b"/")[0].endswith((b"/new", b"/cur"))


def is_same_message(name: bytes, other: bytes) -> bool:
    """Whether two names in a Maildir are those of one message: a reader adds flags to the name, after a colon."""
    return name.partition(b":")[0] == other.partition(b":")[0]


def is_plain_path(path: bytes) -> bool:
    """Whether a path is absolute and has only plain names."""
    names = path[1:].split(b"/")
    return path == b"/" or (path.startswith(b"/") and b"\0" not in path and {b"", b".", b".."}.isdisjoint(names))
