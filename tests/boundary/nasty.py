"""A tree with every nasty kind of name and metadata. Needs root. Takes an empty folder; fills it."""

import os
import socket
import subprocess

NAMES = (
    b"new\nline", b"tab\there", b"back\\slash", b"ends\\", b"bad\xff\xfeutf", b"glob*?[a]", b"#hash", b"a#b", b"eq=ual",
    b"-dash", b" lead", b"trail ", b"\xc3\xa9", b"\"q'", b"..dots", b"...", b"$d", b"a;b&c|d", b"\x01\x7f\x1b[31m",
    b"a:b", b"~t", b"^c", b"{b}", b"%41", b"\\012", b"\n", b"@set", b"x" * 255, b"\xff" * 255, b"f", b"f-a", b"f.b",
)  # fmt: skip
TIMES = {
    b"before 1970": -1_500_000_000,
    b"a nanosecond before 1970": -1,
    b"five nanoseconds": 1_600_000_000_000_000_005,
    b"the first second": 7,
    b"far": 4_000_000_000_123_456_789,
}
TARGETS = {
    b"ln": b"tar\nget #* \xff=\\",
    b"abs": b"/etc/passwd",
    b"sp": b" ",
    b"dangling": b"no/where",
    b"self": b"self",
}


def make(tree: bytes, *, netbsd: bool = False) -> None:
    """Fill `tree`. With `netbsd`, leave out what mtree(8) itself writes wrongly: folders with a newline in the name."""
    for number, name in enumerate(NAMES):
        write(tree + b"/" + name, b"x" * number, 0o600 + number % 8)
    folder = tree + (b"/dir/sub*dir/deep" if netbsd else b"/dir/sub*dir/dee\np")
    os.makedirs(folder)
    write(folder + b"/file")
    for name in (b"dir-a", b"dir.b", b"dir/x", b"nameless", b"nobody", b"setuid", b"acl", b"capable", b"attributes"):
        write(tree + b"/" + name)
    os.chmod(tree + b"/setuid", 0o4755)
    os.chmod(tree + b"/dir", 0o1777)
    os.chown(tree + b"/nameless", 54321, 54322)
    os.chown(tree + b"/nobody", 65534, 65534)
    for name, target in TARGETS.items():
        os.symlink(target, tree + b"/" + name)
    os.lchown(tree + b"/ln", 65534, 54322)
    for name, moment in TIMES.items():
        write(tree + b"/" + name)
        os.utime(tree + b"/" + name, ns=(moment, moment))
    os.utime(tree + b"/abs", ns=(5, -5), follow_symlinks=False)
    _make_special(tree)
    os.utime(tree + b"/dir", ns=(-3, -3))


def write(path: bytes, content: bytes = b"x", mode: int = 0o644) -> None:
    with open(path, "wb") as stream:
        stream.write(content)
    os.chmod(path, mode)


def _make_special(tree: bytes) -> None:
    os.mkfifo(tree + b"/fifo")
    os.mknod(tree + b"/chr", 0o20600, os.makedev(259, 70000))
    os.mknod(tree + b"/blk", 0o60600, os.makedev(511, 1048575))
    for name in (b"hard", b"dir/hard"):
        os.link(tree + b"/setuid", tree + b"/" + name)
    os.link(tree + b"/fifo", tree + b"/fifo too")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(tree + b"/socket")
    with open(tree + b"/sparse", "wb") as stream:
        stream.truncate(10_000_000)
    os.setxattr(tree + b"/attributes", b"user.odd=#\xc3\xa9", b"\0\n\xff")
    os.setxattr(tree + b"/attributes", b"user.empty", b"")
    os.setxattr(tree + b"/dir", b"trusted.x", b"y")
    for argv in (
        ("setfacl", "-m", "u:65534:r,g:1234:rw", tree + b"/acl"),
        ("setfacl", "-d", "-m", "u:65534:rx", tree + b"/dir"),
        ("setcap", "cap_net_raw+ep", tree + b"/capable"),
    ):
        subprocess.run(argv, check=True)
