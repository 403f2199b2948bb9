"""Which extended attributes belong to a file's metadata; ACLs and file capabilities are among them. Pure.

Left alone are those that the kernel or a security module keeps for itself: labels, measurements, overlay marks.
"""

ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
CAPABILITY = b"security.capability"
_CARRIED = (b"user.", b"trusted.", *ACLS)
_KERNEL_OWN = b"trusted.overlay."


def is_carried(name: bytes) -> bool:
    """Whether the attribute is restored."""
    return name == CAPABILITY or (name.startswith(_CARRIED) and not name.startswith(_KERNEL_OWN))
