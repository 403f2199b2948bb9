"""Hold one appliance: overlay mount, namespaces, network; undo all of it when stdin closes.

Runs as a program of its own, so that whatever ends the test process (an exception, Ctrl-C, SIGKILL) closes the
pipe and thereby ends every process of the appliance, its mounts and its folder. Takes one argument, a literal of
Python (see `box.Box`), prints the number of process 1 once the appliance is ready, and exits 0 after cleaning up.
It imports little: a test run starts hundreds of these, and `json` or `subprocess` take longer than all else here.
Touches: mounts below the given folder, processes it started itself.
Sources: mount(2), pivot_root(2), unshare(2), pid_namespaces(7), devpts in the kernel's filesystems documentation.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]  # what `box.Box` orders
LIBC = ctypes.CDLL(None, use_errno=True)
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 1 << 17, 1 << 26, 1 << 27, 1 << 29, 1 << 30
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}


def check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    check(LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()))


def lay_overlay(spec: Spec) -> None:
    """`index` keeps hard links whole when one of them is written to; `xino` keeps inode numbers unique and steady."""
    folder = spec["folder"]
    if spec["on"] == "memory":
        mount("tmpfs", folder, "tmpfs", 0, "mode=0700,size=8g")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{folder}/{name}", 0o755)
    links = "index=on,xino=on" if spec["steady"] else "index=off,xino=off"
    layers = f"lowerdir={':'.join(spec['lowers'])},upperdir={folder}/upper,workdir={folder}/work"
    mount("overlay", f"{folder}/root", "overlay", 0, f"{links},redirect_dir=off,metacopy=off,{layers}")


def make_devices() -> None:
    mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=0755")
    for name, (major, minor) in DEVICES.items():
        os.mknod(f"dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"dev/{name}")
    os.mkdir("dev/pts")
    os.mkdir("dev/shm")
    mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def enter_root(spec: Spec) -> None:
    """Make the overlay this mount namespace's root, with /proc, /sys, /dev and /run as a booted machine has them."""
    os.umask(0)
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    os.chdir(f"{spec['folder']}/root")
    for source, target in spec["binds"].items():
        os.makedirs("." + target, exist_ok=True)
        mount(source, "." + target, "", MS_BIND | MS_REC)
    mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    make_devices()
    mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir("run/lock", 0o1777)
    check(LIBC.syscall(PIVOT_ROOT, b".", b"."))
    check(LIBC.umount2(b".", MNT_DETACH))
    os.chdir("/")
    os.umask(0o022)


def be_init(spec: Spec, ready: int) -> None:
    """Process 1 of the appliance: reap, and wait to be killed (a plain process 1 ignores other signals)."""
    try:
        check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET))
        name = spec["hostname"].encode()
        check(LIBC.sethostname(name, len(name)))
        enter_root(spec)
    except OSError as error:
        os.write(ready, f"{error}\n".encode())
        os._exit(1)
    os.write(ready, b"ok\n")
    os.close(ready)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigwait({signal.SIGCHLD})


def start_init(spec: Spec) -> int:
    """Return process 1's id as the host sees it. A go-between forks it: only *children* enter a new pid namespace."""
    numbers, tell_number = os.pipe()
    ready, tell_ready = os.pipe()
    between = os.fork()
    if between == 0:
        check(LIBC.unshare(CLONE_NEWPID))
        child = os.fork()
        if child == 0:
            for descriptor in (0, 1, numbers, tell_number, ready):
                os.close(descriptor)
            os.open("/dev/null", os.O_RDWR)
            os.dup(0)
            be_init(spec, tell_ready)
        os.write(tell_number, str(child).encode())
        os._exit(0)
    os.close(tell_number)
    os.close(tell_ready)
    os.waitpid(between, 0)
    pid = int(os.read(numbers, 32))
    with open(ready, "rb") as answers:
        answer = answers.read()
    if answer != b"ok\n":
        raise OSError(answer.decode() or "process 1 of the appliance died")
    return pid


def start_network(pid: int) -> int:
    """User-mode network: own loopback and ports, yet the outside (for apt) can be reached; 10.0.2.2 is the host."""
    ready, tell = os.pipe()
    os.set_inheritable(tell, True)
    command = ["slirp4netns", "--configure", "--mtu=65520", f"--ready-fd={tell}", str(pid), "tap0"]
    quiet = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    defaults = {"setsigdef": [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]}
    network = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet, **defaults)
    os.close(tell)
    with open(ready, "rb") as answers:
        if answers.read(1) != b"1":
            raise OSError("slirp4netns did not come up")
    return network


def clean_up(spec: Spec, pid: int, network: int) -> None:
    if network:
        os.kill(network, signal.SIGKILL)
        os.waitpid(network, 0)
    if pid:
        watch = os.pidfd_open(pid)
        signal.pidfd_send_signal(watch, signal.SIGKILL)
        select.select([watch], [], [], 60)
    folder = spec["folder"]
    for mounted in (f"{folder}/root", folder if spec["on"] == "memory" else ""):
        if mounted and os.path.ismount(mounted):
            LIBC.umount2(mounted.encode(), MNT_DETACH)
    if spec["keep"]:
        os.utime(folder)  # from here on it is no stray only while it is new, see box.stray_clones
    else:
        remove(folder)


def remove(folder: str) -> None:
    try:
        os.rmdir(folder)  # nothing is left where its changes were in memory
    except OSError:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spec: Spec = eval(sys.argv[1], {})
    pid, network = 0, 0
    try:
        lay_overlay(spec)
        pid = start_init(spec)
        network = start_network(pid)
        print(pid, flush=True)
        sys.stdin.read()
    finally:
        clean_up(spec, pid, network)


if __name__ == "__main__":
    main()
