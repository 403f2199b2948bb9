"""The helper process: duplicity's backends, which reach any address that duplicity can reach.

Takes requests as lines of JSON on its standard input; gives answers as lines of JSON on its standard output. Text that
duplicity and its programs print there goes to stderr. Touches the address, and the folders that a request names.

    {"do": "open", "address": TEXT}                       {}
    {"do": "make", "folder": TEXT}                        {}
    {"do": "list", "folder": TEXT}                        {"sizes": {NAME: BYTES}}
    {"do": "stat", "folder": TEXT, "name": NAME}          {"size": BYTES or null}
    {"do": "upload" or "download", …, "file": PATH}       {"moved": BYTES}, any number, each answered by {}; then {}
    {"do": "delete", "folder": TEXT, "name": NAME}        {}
    anything, where it failed                             {"failed": KIND, "reason": TEXT}

KIND is scheme (there is no such backend), unusable (it lacks a library or program), password (it wants one), missing,
denied, full, unfit (it cannot do that) or other. Where a backend reports no sizes, the helper downloads the objects to
find out. It tries a request once. The process ends, with all programs that it started, when its standard input ends.
"""

import errno
import http.client
import json
import os
import queue
import re
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.dom import minidom

from tklb.storage.duplicity import VERSION

_SILENCE = 60  # seconds after which a server that says nothing is given up
_PROBE = b"tklb-was-here"
_SLICE = 1 << 16
_TELL_EVERY = 1 << 18
_LONGEST_LISTING = 64 << 20
_OPTIONAL = "/usr/lib/python3/dist-packages"  # where Debian's packages put libraries that some backends want
_WORDS = {
    "missing": re.compile(r"no such (file|object|key)|(?<!host )not found", re.IGNORECASE),
    "denied": re.compile(
        r"permission denied|access denied|unauthori[sz]ed|forbidden|login (incorrect|failed)|read-only file system",
        re.IGNORECASE,
    ),
    "full": re.compile(r"no space left|quota|insufficient storage|disk full", re.IGNORECASE),
    "unfit": re.compile(r"not implemented|not allowed|name too long|file too large|not supported", re.IGNORECASE),
}
_CODES = {51: "denied", 52: "missing", 53: "full"}  # duplicity.log.ErrorCode
_NUMBERS = {errno.ENOENT: "missing", errno.EACCES: "denied", errno.EPERM: "denied", errno.EROFS: "denied"}
_NUMBERS |= {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.ENAMETOOLONG: "unfit", errno.EOPNOTSUPP: "unfit"}
_NUMBERS |= {errno.EFBIG: "unfit", errno.EINVAL: "unfit", errno.ENOSYS: "unfit"}
_STATUSES = {401: "denied", 403: "denied", 404: "missing", 409: "missing", 410: "missing", 423: "denied", 507: "full"}
_STATUSES |= dict.fromkeys((400, 405, 411, 413, 414, 415, 422, 501, 505), "unfit")
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_UNUSABLE = re.compile(r"\brequires?\b|not found|install|No module named|missing", re.IGNORECASE)
_SIZES = '<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:getcontentlength/></D:prop></D:propfind>'

Untyped = Any  # what duplicity makes: it has no types
Request = dict[str, Any]


class RequestFailed(Exception):
    """A request that failed; `kind` as above."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


class Helper:
    """The backends of one address. `report` gets the bytes that move."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._address = ""
        self._open: dict[str, Untyped] = {}
        self._moved = 0
        self._counts = False
        self.status = 0  # of the last answer by HTTP to this request

    def answer(self, request: Request) -> Request:
        self.status = 0
        match request["do"]:
            case "open":
                self._address = request["address"]
                self._end(request.get("folder", ""))
            case "make":
                self._make(request["folder"])
            case "list":
                return {"sizes": self._list(request["folder"])}
            case "stat":
                return {"size": self._size(request["folder"], request["name"])}
            case "upload":
                self._upload(request)
            case "download":
                self._download(request)
            case "delete":
                self._end(request["folder"]).delete([os.fsencode(request["name"])])
        return {}

    def note_status(self, status: int) -> None:
        """Called for each answer by HTTP."""
        self.status = status

    def count_sent(self, count: int) -> None:
        """Called for bytes that go out by HTTP."""
        self._moved += count
        if self._counts and self._moved >= _TELL_EVERY:
            self._report(self._moved)
            self._moved = 0

    def _end(self, folder: str) -> Untyped:
        """duplicity's backend for a folder of the address."""
        if folder not in self._open:
            base, mark, query = self._address.partition("?")
            self._open[folder] = _open_backend(f"{base}/{folder}{mark}{query}" if folder else self._address)
        return self._open[folder]

    def _make(self, folder: str) -> None:
        """Most backends make a folder when it is listed, the others when something is put there."""
        end = self._end(folder)
        try:
            end.list()
        except Exception:  # noqa: BLE001 - whatever it was, the next step fails with the same
            with tempfile.NamedTemporaryFile() as empty:
                end.put(_path(empty.name), _PROBE)
            end.delete([_PROBE])

    def _upload(self, request: Request) -> None:
        self._moved, self._counts = 0, True
        try:
            self._end(request["folder"]).put(_path(request["file"]), os.fsencode(request["name"]))
        finally:
            self._counts = False

    def _download(self, request: Request) -> None:
        end, name = self._end(request["folder"]), request["name"]
        end.get(os.fsencode(name), _path(request["file"]))
        size, reported = os.stat(request["file"]).st_size, _report_size(end, name)
        if reported not in (None, size):  # not every backend notices that it was cut off
            raise RequestFailed("other", f"{size} of {reported} bytes came")

    def _list(self, folder: str) -> dict[str, int]:
        end = self._end(folder)
        return {name: size for name, size in _sizes(end) if size >= 0}

    def _size(self, folder: str, name: str) -> int | None:
        end = self._end(folder)
        size = _report_size(end, name)
        if size is None:
            size = _measure(end, name)
        return size if size >= 0 else None


def _sizes(end: Untyped) -> list[tuple[str, int]]:
    quick = _quick_sizes(end)
    if quick is not None:
        return list(quick.items())
    names = [os.fsdecode(name) for name in end.list()]
    known = end.query_info([os.fsencode(name) for name in names])
    sizes = ((name, known[os.fsencode(name)]["size"]) for name in names)
    return [(name, _measure(end, name) if size is None else size) for name, size in sizes]


def _report_size(end: Untyped, name: str) -> int | None:
    """The size of an object, -1 where it is missing; None where the backend cannot tell."""
    size: int | None = end.query_info([os.fsencode(name)])[os.fsencode(name)]["size"]
    if size is None:
        sizes = _quick_sizes(end, name)
        size = None if sizes is None else sizes.get(name, -1)
    return size


def _quick_sizes(end: Untyped, name: str = "") -> dict[str, int] | None:
    """All sizes, that of `name` at least, by one request that duplicity does not make; None for other backends."""
    match type(end.backend).__name__:
        case "WebDAVBackend":
            return _webdav_sizes(end.backend, name)
        case "RsyncBackend":
            _, listing, _ = end.backend.subprocess_popen(f"{end.backend.cmd} {end.backend.url_string}")
            return rsync_sizes(listing)
        case "LFTPBackend":
            return _lftp_sizes(end.backend)
    return None


def _webdav_sizes(backend: Untyped, name: str) -> dict[str, int]:
    backend.headers["Depth"] = "0" if name else "1"
    try:
        response = backend.request("PROPFIND", backend.directory + name, _SIZES)
    finally:
        del backend.headers["Depth"]
    with response:
        if name and response.status == http.client.NOT_FOUND:
            return {}
        if response.status not in (200, 207):
            raise OSError(f"PROPFIND: {response.status} {response.reason}")
        document = response.read(_LONGEST_LISTING)
    sizes = {}
    for entry in minidom.parseString(document).getElementsByTagNameNS("*", "response"):  # noqa: S318 - expat bounds it
        found = backend.taste_href(entry.getElementsByTagNameNS("*", "href")[0])
        lengths = [backend.getText(one.childNodes) for one in entry.getElementsByTagNameNS("*", "getcontentlength")]
        if found and not found.endswith("/") and lengths and lengths[0].isdecimal():
            sizes[found] = int(lengths[0])
    return sizes


def rsync_sizes(listing: str) -> dict[str, int]:
    """Parse a listing of rsync: mode, size with commas, date, time, name. Plain files only."""
    fields = (line.split(None, 4) for line in listing.splitlines() if line.startswith("-"))
    return {each[4]: int(each[1].replace(",", "")) for each in fields if len(each) == 5}


def _lftp_sizes(backend: Untyped) -> dict[str, int]:
    script = f"source {backend.tempname}; cd {shlex.quote(backend.remote_path)} && cls -1 -s --block-size=1"
    _, listing, _ = backend.subprocess_popen(["lftp", "-c", script])
    fields = (line.split(None, 1) for line in listing.splitlines())
    return {each[1]: int(each[0]) for each in fields if len(each) == 2 and each[0].isdecimal()}


def _measure(end: Untyped, name: str) -> int:
    """The size of an object by a download; -1 where it is missing."""
    if os.fsencode(name) not in end.list():
        return -1
    with tempfile.TemporaryDirectory() as folder:
        end.get(os.fsencode(name), _path(f"{folder}/copy"))
        return os.stat(f"{folder}/copy").st_size


def _path(file: str) -> Untyped:
    from duplicity import path

    return path.Path(os.fsencode(file))


def _open_backend(address: str) -> Untyped:
    from duplicity import backend, errors

    try:
        return backend.get_backend(address)
    except errors.UnsupportedBackendScheme as exc:
        raise RequestFailed("scheme", str(exc)) from exc
    except EOFError as exc:
        raise RequestFailed("password", "it wants a password") from exc
    except (errors.FatalError, errors.BackendException, NameError) as exc:
        kind = "unusable" if isinstance(exc, NameError) or _UNUSABLE.search(str(exc)) else kind_of_failure(exc)
        raise RequestFailed(kind, str(exc)) from exc


def kind_of_failure(exc: BaseException, status: int = 0) -> str:
    """The kind of a failure, by the numbers that come with it; by its words where a program alone has spoken.

    `status` is that of the last answer by HTTP, 0 for none. A number in the text says nothing: it may be a size or a
    part of a name.
    """
    numbers = [number for one in _causes(exc) if (number := getattr(one, "errno", 0))]
    kinds = [_CODES.get(getattr(exc, "code", 0)), *map(_NUMBERS.get, numbers), _STATUSES.get(status)]
    if status in _PASSING or any(kinds):
        return next(filter(None, kinds), "other")
    return next((kind for kind, words in _WORDS.items() if words.search(str(exc))), "other")


def _causes(exc: BaseException | None) -> list[BaseException]:
    """A failure and those that it came from."""
    found: list[BaseException] = []
    while exc is not None and exc not in found:
        found.append(exc)
        exc = exc.__cause__ or exc.__context__
    return found


def _watch_http(sent: Callable[[int], None], note_status: Callable[[int], None]) -> None:
    """Send by HTTP in slices, count each, and note each status: some backends hand over a whole volume at once."""
    plain = http.client.HTTPConnection.send

    def send(connection: http.client.HTTPConnection, content: Untyped) -> None:
        if not isinstance(content, bytes | bytearray | memoryview):
            plain(connection, content)
            return
        view = memoryview(content)
        for start in range(0, len(view), _SLICE):
            plain(connection, view[start : start + _SLICE])
            sent(len(view[start : start + _SLICE]))

    plain_answer = http.client.HTTPConnection.getresponse

    def getresponse(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        response = plain_answer(connection)
        note_status(response.status)
        return response

    http.client.HTTPConnection.send = send  # type: ignore[method-assign, assignment]
    http.client.HTTPConnection.getresponse = getresponse  # type: ignore[method-assign, assignment]


@cache
def _load() -> None:
    """Load duplicity as a library that gives up quickly and never asks a question."""
    import duplicity

    if duplicity.__version__ != VERSION:
        raise RequestFailed("unusable", f"this is duplicity {duplicity.__version__}; tklb knows {VERSION}")
    from duplicity import backend, config, log

    log.setup()
    config.num_retries, config.backend_retry_delay, config.timeout = 1, 1, _SILENCE
    socket.setdefaulttimeout(_SILENCE)
    backend.getpass.getpass = _no_password
    backend.import_backends()


def _no_password(_prompt: str = "", _stream: object = None) -> str:
    raise EOFError


def _listen(descriptor: int, requests: queue.SimpleQueue[bytes]) -> None:
    with open(descriptor, "rb") as stream:
        for line in stream:
            requests.put(line)
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)  # our parent did not live to remove it
    os.killpg(0, signal.SIGKILL)


def main(_arguments: Sequence[str]) -> int:
    """Answer requests until there are no more."""
    os.umask(0o077)
    asked, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    if Path(_OPTIONAL).is_dir():
        sys.path.append(_OPTIONAL)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked, requests), daemon=True).start()

    def say(answer: Request) -> None:
        os.write(answers, json.dumps(answer).encode() + b"\n")

    def report(count: int) -> None:
        say({"moved": count})
        requests.get()

    helper = Helper(report)
    _watch_http(helper.count_sent, helper.note_status)
    while True:
        say(_answer_or_explain(helper, json.loads(requests.get())))


def _answer_or_explain(helper: Helper, request: Request) -> Request:
    try:
        _load()
        return helper.answer(request)
    except RequestFailed as exc:
        return {"failed": exc.kind, "reason": exc.reason}
    except Exception as exc:  # noqa: BLE001 - backends raise what they like
        return {"failed": kind_of_failure(exc, helper.status), "reason": str(exc) or type(exc).__name__}
