"""The recovery sheet as text: the steps of a restore for a person who has never seen the machine.

Takes the facts about machine, key and target; gives text. Touches nothing.
"""

from datetime import datetime
from shlex import quote

from tklb.lazy_dataclass import dataclass
from tklb.model.target import TargetUrl

TITLE = "Recovery sheet"
COMMAND = "     "  # the indent of a command to type


@dataclass(frozen=True, slots=True)
class RecoverySheet:
    """The facts on a recovery sheet. `key` is the text of a key file, bare or with a passphrase.

    `place` is the configured target with its endpoint; `region` is that of its bucket.
    """

    hostname: str
    made: datetime  # aware
    fingerprint: str
    has_passphrase: bool
    key: str
    place: TargetUrl
    region: str = ""


def facts(sheet: RecoverySheet) -> tuple[tuple[str, str], ...]:
    """Names and values of the facts."""
    return (
        ("Machine", sheet.hostname),
        ("Sheet made", sheet.made.strftime("%Y-%m-%d %H:%M UTC")),
        ("Snapshots", sheet.place.text),
        ("Key", sheet.fingerprint),
        ("Opened by", "its passphrase, which is not on this sheet" if sheet.has_passphrase else "nothing else"),
    )


def describe_safekeeping(sheet: RecoverySheet) -> str:
    if sheet.has_passphrase:
        return "Keep this sheet away from the machine, and its passphrase in another place than this sheet."
    return "Anyone with this sheet can read every backup of the machine: lock it away, and not beside the machine."


def steps(sheet: RecoverySheet) -> tuple[str, ...]:
    """The steps of a restore: lines of text, and indented commands."""
    asks = ", which asks for the passphrase" if sheet.has_passphrase else ""
    return (
        "1. Save the key: scan the square, or type the block, from BEGIN to END, into a file key.asc.",
        *(f"   {line}" for line in _needs(sheet.place)),
        f"2. With tklb, as root on a freshly installed Debian of the same release{asks}:",
        f"{COMMAND}tklb restore --target {quote(sheet.place.text)} --key key.asc",
        "   It shows its plan and asks before it changes anything.",
        "3. Or without tklb: the files, by stock tools alone, in a new folder that has key.asc in it.",
        f"{COMMAND}apt-get install gpg duplicity",
        *(f"{COMMAND}{command}" for command in _commands(sheet)),
        "   Where names in volumes/ begin with b-, c- ...: once more for each, as",
        f"{COMMAND}duplicity restore --file-prefix b- {_volumes(sheet.place)} files-b",
        "   files/var/lib/tklb/stage/README says where packages, users, owners and databases are.",
        "   Should the key not fit: it was changed since. Look for a newer sheet.",
    )


def _commands(sheet: RecoverySheet) -> tuple[str, ...]:
    return (
        *_download(sheet.place, sheet.region),
        "export PASSPHRASE=$(gpg --decrypt key.asc)",
        f"duplicity restore {_volumes(sheet.place)} files",
        "less files/var/lib/tklb/stage/README",
    )


def _needs(place: TargetUrl) -> tuple[str, ...]:
    match place.scheme:
        case "file":
            return (f"Attach the disk, so that there is a folder {place.path}",)
        case "s3":
            return ("The storage asks for its own credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",)
        case "sftp":
            return (f"{place.host} must let you in by SSH, with a key or password of its own.",)
        case _:
            return ("The storage asks for its own credentials; duplicity(1) says how they are given.",)


def _download(place: TargetUrl, region: str) -> tuple[str, ...]:
    match place.scheme:
        case "s3":
            prefix = "".join(f"{part}/" for part in (place.bucket, place.path) if part)
            words = ["aws", "s3", "cp", "--recursive", f"s3://{prefix}volumes", "volumes"]
            words += ["--endpoint-url", place.endpoint] if place.endpoint else []
            words += ["--region", region] if region else []
            return ("apt-get install awscli", " ".join(map(quote, words)))
        case "sftp":
            host = f"[{place.host}]" if ":" in place.host else place.host
            words = ["sftp", *(("-P", str(place.port)) if place.port else ()), "-r"]
            at = f"{place.user}@" if place.user else ""
            return (" ".join(map(quote, (*words, f"{at}{host}:{place.path}/volumes", "."))),)
        case _:
            return ()


def _volumes(place: TargetUrl) -> str:
    """The quoted address for duplicity: a folder, or the target itself where duplicity has its own backend for it."""
    match place.scheme:
        case "file":
            return quote(f"file://{place.path}/volumes")
        case "s3" | "sftp":
            return '"file://$PWD/volumes"'
        case _:
            return quote(f"{place.text}/volumes")
