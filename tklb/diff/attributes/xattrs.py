"""Extended attributes that belong to the metadata of a file, among them ACLs and file capabilities. Pure.

tklb leaves alone the attributes of the kernel and of security modules: labels, measurements, overlay marks.
"""

ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
CAPABILITY = b"security.capability"
_CARRIED = (b"user.", b"trusted.", *ACLS)
_KERNEL_OWN = b"trusted.overlay."


def is_carried(name: bytes) -> bool:
    """Whether tklb backs the attribute up and restores it."""
    return name == CAPABILITY or (name.startswith(_CARRIED) and not name.startswith(_KERNEL_OWN))
