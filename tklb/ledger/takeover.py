"""Record that this installation continues the history of a target. Touches `ledger/` there, and a private folder."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder
from tklb.ledger.entry import authentication_key
from tklb.ledger.read import Ledger, read_ledger
from tklb.ledger.seal import follow_lineage
from tklb.ledger.writer import Writer, format_writer, writer_name
from tklb.model.secret import Secret
from tklb.storage.backend import Backend
from tklb.storage.upload import upload_object

log = logging.getLogger(__name__)


def record_takeover(
    backend: Backend, secret: Secret, folder: Path, ledger: Ledger, installation: str, now: datetime, why: str
) -> Writer:
    """Post the record of a takeover; from then on every other installation is refused.

    `why` is `takeover` or `restore`; `folder` is the private folder of the ledger. Raises what the target raises.
    """
    head = ledger.entries[-1] if ledger.entries else None
    number = 1 + (ledger.writer.number if ledger.writer else 0)
    time = now.astimezone(UTC).isoformat(timespec="seconds")
    after = head.snapshot if head else ""
    writer = Writer(number, head.lineage if head else "", installation, after, time, why)
    with fresh_folder(private_folder(folder) / "sealing") as work:
        (work / "writer").write_bytes(format_writer(writer, authentication_key(secret)))
        upload_object(backend, writer_name(writer), work / "writer")
    follow_lineage(folder, ledger)
    log.info("took over the history at %s after snapshot %s", backend.address, after or "none")
    return writer


def take_lead(backend: Backend, secret: Secret, folder: Path, installation: str, now: datetime) -> Writer:
    """Take over a history on behalf of a restore: read the ledger and record it. Raises what the target raises."""
    ledger = read_ledger(backend, secret, folder)
    return record_takeover(backend, secret, folder, ledger, installation, now, "restore")
