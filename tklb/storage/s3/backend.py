"""The backend for a bucket of an S3 service, of Amazon or any other.

It sends its requests through client.py. Facts of the protocol: the Amazon S3 API reference, "PutObject", "Checking
object integrity" and "Multipart upload".
"""

import base64
import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import IO, Any, TypeVar

from tklb.base.fs import open_plain
from tklb.config.schema import S3Config
from tklb.errors import AccessRefused, TargetDamaged, TargetUnfit, TargetUnreachable, TklbError
from tklb.model.target import Permanence, TargetUrl
from tklb.storage.backend import LEDGER, Creation, ListedObject, Moved, StoredObject, check_name, ignore_moved, is_name
from tklb.storage.local import create_private
from tklb.storage.s3.body import FileChanged, UploadBody, digest_stretch
from tklb.storage.s3.client import Answer, S3Service

log = logging.getLogger(__name__)

# Up to here an object goes in one request: volumes of the usual size, whose whole SHA-256 the service then knows.
WHOLE = 256 << 20
PART = 32 << 20
MOST_LISTED = 3_000_000  # entries: a thousand volumes a day for eight years; they are held in memory
_BLOCK = 1 << 20
_TAKEN = ("PreconditionFailed", "412")  # an object has the name
_REFUSES_HEADERS = (400, 405, 501)  # B2 answers InvalidArgument, R2 NotImplemented
Adapted = TypeVar("Adapted")
_OTHER_CONTENT = "the service confirmed another content than it was sent"


class S3Backend:
    """See Backend. Its constructor sends no request."""

    spool: Path | None = None

    def __init__(self, address: TargetUrl, config: S3Config) -> None:
        self._address = address
        self._service = S3Service(address, config)
        self._root = f"{address.path}/" if address.path else ""
        kept = (
            ("ServerSideEncryption", config.encryption),
            ("SSEKMSKeyId", config.kms_key),
            ("StorageClass", config.storage_class),
        )
        self._stored_with = {key: value for key, value in kept if value}
        self._sends_checksums = True  # until the service refuses a request with them
        self._can_exclude: bool | None = None  # whether it heeds If-None-Match; None while nobody has seen it
        self._wants_hashes = True  # while the service was not seen to confirm checksums by itself

    @property
    def address(self) -> str:
        return self._address.text

    def make(self) -> None:
        """Make the bucket, if there is none."""
        try:
            self._service.ask("head_bucket", {})
        except (AccessRefused, TargetUnfit):
            self.list(LEDGER)  # credentials for a prefix alone may not ask for the bucket
        except TargetUnreachable as exc:
            if not exc.facts.get("is_missing"):
                raise
            region = self._service.region
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._service.ask("create_bucket", place, accept=("BucketAlreadyOwnedByYou",))

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        key = self._key(name)
        with self._service.explain(name), open_plain(source) as origin:
            size = os.fstat(origin.fileno()).st_size
            upload = self._upload_whole if size <= WHOLE else self._upload_in_parts
            try:
                is_confirmed = self._adapt(lambda count: upload(key, origin, sha256, count), moved)
            except FileChanged as exc:
                raise self._unreachable(f"{name} changed while it was stored") from exc
        return StoredObject(size, sha256 if is_confirmed else None)

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        if not self._can_exclude and self.stat(name) is not None:
            return Creation.EXISTS
        if self._can_exclude is not False:
            with self._service.explain(name), open_plain(source) as origin:
                result = self._upload_if_absent(self._key(name), origin, sha256)
            if result:
                return result
        self.upload(name, source, sha256)
        return Creation.UNSURE

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        key = self._key(name)
        with self._service.explain(name), create_private(destination) as copy, self._content(key, name) as content:
            while block := content.read(_BLOCK):
                copy.write(block)
                moved(len(block))

    def read(self, name: str, limit: int) -> bytes:
        key, found = self._key(name), bytearray()
        with self._service.explain(name), self._content(key, name) as content:
            while len(found) <= limit and (block := content.read(limit + 1 - len(found))):
                found += block
        if len(found) > limit:
            raise TargetDamaged(address=self.address, reason=f"{name} is longer than {limit} bytes")
        return bytes(found)

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        entries = self._pages("list_objects_v2", "Contents", self._root + prefix, _listing_place)
        with self._service.explain():
            listed = [ListedObject(str(entry["Key"]).removeprefix(self._root), int(entry["Size"])) for entry in entries]
        return tuple(sorted(entry for entry in listed if entry.name != prefix))  # a "folder", as some tools make them

    def stat(self, name: str) -> StoredObject | None:
        try:
            answer = self._adapt(lambda _: self._service.ask("head_object", self._describe_wanted(name), about=name))
        except TargetDamaged:
            return None
        except AccessRefused as exc:
            self._raise_if_there(name, exc)
            return None
        modified = answer.get("LastModified")
        with self._service.explain():
            return StoredObject(
                int(answer["ContentLength"]),
                _whole_digest(answer),
                modified and modified.astimezone(UTC),
                _find_permanence(answer),
            )

    def _raise_if_there(self, name: str, refusal: AccessRefused) -> None:
        """Raise the refusal of an object, unless the object is missing.

        Who may not list the whole bucket is refused a missing object, as if it were there.
        """
        if refusal.is_transient or self._is_listed(self._key(name)):
            raise refusal

    def _is_listed(self, key: str) -> bool:
        try:
            page = self._service.ask("list_objects_v2", {"Prefix": key, "MaxKeys": 1})
        except AccessRefused:
            return True  # as far as anybody can tell
        with self._service.explain():
            return any(entry["Key"] == key for entry in page.get("Contents", ()))

    def _describe_wanted(self, name: str) -> dict[str, str]:
        return {"Key": self._key(name), **({"ChecksumMode": "ENABLED"} if self._sends_checksums else {})}

    def _adapt(self, act: Callable[[Moved], Adapted], moved: Moved = ignore_moved) -> Adapted:
        """Ask with checksums; where the service refuses such a request, ask without, from then on."""
        asked_with, sent = self._sends_checksums, 0

        def count(amount: int) -> None:
            nonlocal sent
            sent += amount
            moved(amount)

        try:
            return act(count)
        except TargetUnreachable as exc:
            if not asked_with or exc.facts.get("status") not in _REFUSES_HEADERS:
                raise
            moved(-sent)
            self._sends_checksums = False
            answer = act(moved)
            log.info("%s does not know checksums of S3 (%s): tklb compares MD5, or reads back", self.address, exc)
            return answer

    def delete(self, name: str) -> None:
        self._service.ask("delete_object", {"Key": self._key(name)}, accept=("NoSuchKey",))

    def tidy(self) -> None:
        """Abort uploads in parts: their parts take up paid space, and no listing of objects shows them.

        Where the credentials may not list them, or the service cannot, only a rule of the bucket can abort them.
        """
        try:
            self._abort_all()
        except (AccessRefused, TargetUnfit) as exc:
            log.info("cannot look for interrupted uploads in parts: %s", exc)

    def _abort_all(self) -> None:
        with self._service.explain():
            for entry in tuple(self._pages("list_multipart_uploads", "Uploads", self._root, _uploads_place)):
                if is_name(str(entry["Key"]).removeprefix(self._root)):
                    self._abort({"Key": entry["Key"], "UploadId": entry["UploadId"]})

    def close(self) -> None:
        self._service.close()

    def _upload_whole(self, key: str, origin: IO[bytes], sha256: str, moved: Moved) -> bool:
        size = os.fstat(origin.fileno()).st_size
        body = UploadBody(origin, 0, size, moved, hashed=self._wants_hashes, known_sha256=sha256)
        digest = bytes.fromhex(sha256)
        answer = self._send("put_object", body, digest, {"Key": key, "ContentLength": size, **self._stored_with})
        return self._is_confirmed(answer, body, digest)

    def _upload_if_absent(self, key: str, origin: IO[bytes], sha256: str) -> Creation | None:
        """Upload an object on the condition that there is none; None where the service refuses conditions.

        A service that never heard of conditions ignores them. So the first upload is sent twice: who heeds the
        condition refuses the second one.
        """
        try:
            is_made = self._adapt(lambda _: self._put_if_absent(key, origin, sha256))
            is_heeded = self._can_exclude or not is_made or not self._put_if_absent(key, origin, sha256)
        except TargetUnreachable as exc:
            if exc.facts.get("status") not in _REFUSES_HEADERS:
                raise
            self._can_exclude = False
            return None
        self._can_exclude = is_heeded
        return (Creation.MADE if is_heeded else Creation.UNSURE) if is_made else Creation.EXISTS

    def _put_if_absent(self, key: str, origin: IO[bytes], sha256: str) -> bool:
        size = os.fstat(origin.fileno()).st_size
        body = UploadBody(origin, 0, size, ignore_moved, hashed=False, known_sha256=sha256)
        parameters = {"Key": key, "ContentLength": size, "IfNoneMatch": "*", **self._stored_with}
        return bool(self._send("put_object", body, bytes.fromhex(sha256), parameters, accept=_TAKEN))

    def _upload_in_parts(self, key: str, origin: IO[bytes], sha256: str, moved: Moved) -> bool:
        parameters = {"Key": key, **self._name_algorithm(), **self._stored_with}
        upload = {"Key": key, "UploadId": self._service.ask("create_multipart_upload", parameters)["UploadId"]}
        try:
            return self._upload_parts(upload, origin, sha256, moved)
        except BaseException:  # Ctrl-C too: parts that nobody completes are kept, and paid, for ever
            with contextlib.suppress(TklbError):
                self._abort(upload)
            raise

    def _abort(self, upload: Mapping[str, str]) -> None:
        self._service.ask("abort_multipart_upload", upload, accept=("NoSuchUpload",))

    def _upload_parts(self, upload: Mapping[str, str], origin: IO[bytes], sha256: str, moved: Moved) -> bool:
        size, whole = os.fstat(origin.fileno()).st_size, hashlib.sha256()
        parts, digests, are_confirmed = [], [], True
        for number, start in enumerate(range(0, size, PART), 1):
            length = min(PART, size - start)
            digest = digest_stretch(origin, start, length, whole.update)
            body = UploadBody(origin, start, length, moved, hashed=self._wants_hashes, known_sha256=digest.hex())
            parameters = {"PartNumber": number, "ContentLength": length, **upload}
            answer = self._send("upload_part", body, digest, parameters)
            are_confirmed &= self._is_confirmed(answer, body, digest)
            echoed = {key: answer[key] for key in ("ETag", "ChecksumSHA256") if key in answer}
            parts.append({"PartNumber": number, **echoed})
            digests.append(digest)
        if whole.hexdigest() != sha256:
            raise FileChanged
        answer = self._service.ask("complete_multipart_upload", {"MultipartUpload": {"Parts": parts}, **upload})
        etags = b"".join(_etag_bytes(part.get("ETag", "")) for part in parts)
        md5 = hashlib.md5(etags, usedforsecurity=False).hexdigest()
        return self._is_whole(answer, b"".join(digests), f"{md5}-{len(parts)}") and are_confirmed

    def _send(
        self, operation: str, body: UploadBody, digest: bytes, parameters: Answer, accept: tuple[str, ...] = ()
    ) -> Answer:
        """Send content. Raises what the reading of the content raised, unchanged."""
        checksum = {"ChecksumSHA256": base64.b64encode(digest).decode(), **self._name_algorithm()}
        checked = checksum if self._sends_checksums else {"ContentMD5": base64.b64encode(body.measure_md5()).decode()}
        try:
            return self._service.ask(operation, {"Body": body, **parameters, **checked}, accept=accept)
        except TklbError:
            if body.failure is not None:
                raise body.failure from None
            raise

    def _name_algorithm(self) -> dict[str, str]:
        return {"ChecksumAlgorithm": "SHA256"} if self._sends_checksums else {}

    def _is_confirmed(self, answer: Answer, body: UploadBody, digest: bytes) -> bool:
        """Whether the service confirmed the content that it holds. Raises TargetUnreachable for another content."""
        checksum = answer.get("ChecksumSHA256")
        self._wants_hashes = checksum is None
        if checksum is not None:
            if checksum != base64.b64encode(digest).decode():
                raise self._unreachable(_OTHER_CONTENT, is_transient=True)
            return True
        if not body.is_hashed or str(answer.get("ETag", "")).strip('"') != body.md5.hexdigest():
            return False
        if body.sha256.digest() != digest:
            raise FileChanged
        return True

    def _is_whole(self, answer: Answer, digests: bytes, etag: str) -> bool:
        """Whether the service confirmed the whole of the parts, by a checksum of their checksums or by an ETag."""
        checksum = answer.get("ChecksumSHA256")
        if checksum is None:
            return str(answer.get("ETag", "")).strip('"') == etag
        if checksum.partition("-")[0] != base64.b64encode(hashlib.sha256(digests).digest()).decode():
            raise self._unreachable(_OTHER_CONTENT, is_transient=True)
        return True

    @contextlib.contextmanager
    def _content(self, key: str, name: str) -> Iterator[IO[bytes]]:
        try:
            answer = self._service.ask("get_object", {"Key": key}, about=name)
        except AccessRefused as exc:
            self._raise_if_there(name, exc)
            raise TargetDamaged(address=self.address, reason=f"{name} is missing") from exc
        with contextlib.closing(answer["Body"]) as content:
            yield content

    def _pages(
        self, operation: str, kind: str, prefix: str, find_next: Callable[[Answer], dict[str, Any]]
    ) -> Iterator[Answer]:
        """The entries of a listing, page after page. `find_next` gives the place where the next page begins."""
        place: dict[str, Any] = {}
        count = 0
        while True:
            # rclone knows no list of uploads for a bucket that never had one
            page = self._service.ask(operation, {"Prefix": prefix, **place}, accept=("NoSuchUpload",))
            yield from page.get(kind, ())
            count += len(page.get(kind, ()))
            if not page.get("IsTruncated"):
                return
            if (beyond := find_next(page)) == place or not page.get(kind) or count > MOST_LISTED:
                raise self._unreachable("its listing has no end")
            place = beyond

    def _key(self, name: str) -> str:
        return self._root + check_name(name)

    def _unreachable(self, reason: str, *, is_transient: bool = False) -> TargetUnreachable:
        return TargetUnreachable(address=self.address, reason=reason, is_transient=is_transient)


def _whole_digest(answer: Mapping[str, Any]) -> str | None:
    """SHA-256 of an object in hex, None where the service has none of the whole object."""
    if answer.get("ChecksumType") != "FULL_OBJECT":  # not reported: it may be the client's own claim, or one of parts
        return None
    with contextlib.suppress(ValueError):
        digest = base64.b64decode(str(answer.get("ChecksumSHA256", "")), validate=True)
        return digest.hex() if len(digest) == hashlib.sha256().digest_size else None
    return None


def _find_permanence(answer: Answer) -> Permanence | None:
    """What the service does with this object where it is deleted, None where the answer does not show that."""
    if answer.get("ObjectLockMode"):
        return Permanence.LOCKED
    return Permanence.VERSIONED if answer.get("VersionId") not in (None, "null") else None


def _etag_bytes(etag: str) -> bytes:
    with contextlib.suppress(ValueError):
        return bytes.fromhex(etag.strip('"'))
    return b""


def _listing_place(page: Mapping[str, Any]) -> dict[str, Any]:
    return {"ContinuationToken": page.get("NextContinuationToken", "")}


def _uploads_place(page: Mapping[str, Any]) -> dict[str, Any]:
    return {"KeyMarker": page.get("NextKeyMarker", ""), "UploadIdMarker": page.get("NextUploadIdMarker", "")}
