"""Map the ids inside a POSIX ACL.

Takes and gives the value of system.posix_acl_access or system.posix_acl_default (linux/posix_acl_xattr.h: a 32-bit
version, then entries of 16-bit tag, 16-bit permissions and 32-bit id, all little endian). Pure.
"""

import struct
from collections.abc import Mapping
from itertools import pairwise

_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = frozenset({_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER})
_NAMED = frozenset({_USER, _GROUP})
_NO_ID = 2**32 - 1


def remap_acl(value: bytes, uid_map: Mapping[int, int], gid_map: Mapping[int, int]) -> bytes:
    """Give the same ACL with mapped ids; ids that the maps do not have stay.

    The entries are in the order that posix_acl_valid() of the kernel demands, and by id within a tag as libacl wants.
    If two ids become one, it has the rights of both. Raises ValueError if `value` is no ACL.
    """
    rights: dict[tuple[int, int], int] = {}
    for tag, permissions, number in _entries(value):
        mapped = {_USER: uid_map, _GROUP: gid_map}[tag].get(number, number) if tag in _NAMED else _NO_ID
        rights[tag, mapped] = rights.get((tag, mapped), 0) | permissions
    packed = (_ENTRY.pack(tag, permissions, number) for (tag, number), permissions in sorted(rights.items()))
    return value[: _VERSION.size] + b"".join(packed)


def _entries(value: bytes) -> tuple[tuple[int, int, int], ...]:
    body = value[_VERSION.size :]
    if value[: _VERSION.size] != _VERSION.pack(2) or len(body) % _ENTRY.size:
        raise ValueError("not an ACL of version 2")
    entries = tuple(_ENTRY.iter_unpack(body))
    for tag, permissions, number in entries:
        if tag not in _TAGS or permissions > 7:
            raise ValueError(f"ACL entry with tag {tag:#x} and permissions {permissions:#o}")
        if tag in _NAMED and number == _NO_ID:
            raise ValueError(f"ACL entry with tag {tag:#x} and no id")
    _check_tags([tag for tag, _, _ in entries])
    return entries


def _check_tags(tags: list[int]) -> None:
    """Raise ValueError unless each tag is in its place and as often as allowed. An ACL without entries is valid."""
    once = all(tags.count(tag) == 1 for tag in (_USER_OBJ, _GROUP_OBJ, _OTHER))
    in_order = all(before <= after for before, after in pairwise(tags))
    masked = tags.count(_MASK) == 1 or (_MASK not in tags and _NAMED.isdisjoint(tags))
    if tags and not (once and in_order and masked):
        raise ValueError("ACL entries missing, repeated or out of order")
