"""Install state: what a machine type is just after installation. Load, find, detect, check, build."""

from tklb.profile.build import build
from tklb.profile.detect import detect
from tklb.profile.folder import Profile, find, load, shipped
from tklb.profile.lint import figures, lint
from tklb.profile.state import install_state
from tklb.system.release import os_release

__all__ = [
    "Profile",
    "build",
    "detect",
    "figures",
    "find",
    "install_state",
    "lint",
    "load",
    "os_release",
    "shipped",
]
