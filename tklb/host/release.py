"""The release of a root file system. Reads os-release(5), changes nothing."""

import os
import re

_LINE = re.compile(r"""^(ID|VERSION_ID)=["']?([A-Za-z0-9._-]*)["']?$""", re.MULTILINE)


def read_os_release(root: bytes = b"/") -> str:
    """Give `ID-VERSION_ID`, such as debian-12; `ID` if the release has no number; "" if it is unknown."""
    for name in (b"etc/os-release", b"usr/lib/os-release"):
        try:
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as stream:
                fields = dict(_LINE.findall(stream.read()))
        except OSError:
            continue
        return "-".join(filter(None, (fields.get("ID"), fields.get("VERSION_ID"))))
    return ""
