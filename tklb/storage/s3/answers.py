"""The meaning of what an S3 service refuses. Code and status in, a failure out; touches nothing.

A message repeats only the code of an answer, because a service may echo secrets that it got. Codes: "Error responses"
of the Amazon S3 API reference, and those of other services.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

from tklb.errors import AccessRefused, TargetDamaged, TargetFull, TargetUnfit, TargetUnreachable, TklbError
from tklb.lazy_dataclass import dataclass

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_UNKNOWN_KEY = {"InvalidAccessKeyId", "InvalidToken", "InvalidTokenId", "InvalidClientTokenId"}
_REFUSED = {
    "AccessDenied": "these credentials may not do that: grant them {right}",
    "AllAccessDisabled": "the service has closed this account or bucket",
    "AccountProblem": "the service has closed this account",
    "InvalidAccessKeyId": "the service does not know this access key",
    "InvalidClientTokenId": "the service does not know this access key",
    "InvalidToken": "the session token is not valid",
    "InvalidTokenId": "the session token is not valid",
    "InvalidSecurity": "the credentials are not valid",
    "NotSignedUp": "this account has not signed up for S3",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "SecondLevelDomainForbidden": "the service wants the bucket in the host name: set s3.addressing to virtual",
    "UnauthorizedAccess": "these credentials may not do that: grant them {right}",
}
_FULL = {"InsufficientStorage", "QuotaExceeded", "StorageFull", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_PASSING = {
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "InvalidDigest", "NoSuchUpload",
    "OperationAborted", "RequestLimitExceeded", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
}  # fmt: skip
# The service lacks an operation, a header or a parameter, and says so: another try is of no use.
_LACKING = {
    "InvalidArgument", "InvalidHeader", "InvalidRequest", "MethodNotAllowed", "NotImplemented", "NotSupported",
    "UnsupportedHeader", "UnsupportedOperation", "XNotImplemented",
}  # fmt: skip
_LACKING_STATUS = {405, 501}
# The right that an operation needs, in the words of policies.
_RIGHTS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload on {objects}",
    "CreateBucket": "s3:CreateBucket, or make bucket {bucket} by hand",
    "DeleteObject": "s3:DeleteObject on {objects}",
    "GetObject": "s3:GetObject on {objects}",
    "HeadBucket": "s3:ListBucket on {bucket}",
    "HeadObject": "s3:GetObject on {objects}",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads on {bucket}",
    "ListObjectsV2": "s3:ListBucket on {bucket}",
}
_PUT_RIGHT = "s3:PutObject on {objects}"
_ELSEWHERE = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "Redirect"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a service that refuses a request. Times are empty where it gives none."""

    code: str
    status: int
    message: str = ""
    our_time: str = ""
    its_time: str = ""
    region: str = ""
    operation: str = ""  # of the S3 API, as PutObject

    @classmethod
    def read(cls, response: Mapping[str, Any], operation: str = "") -> Self:
        """Parse what botocore made of the answer. It may hold anything."""
        error, facts = response.get("Error", {}), response.get("ResponseMetadata", {})
        headers = facts.get("HTTPHeaders", {})
        status = facts.get("HTTPStatusCode", 0)
        return cls(
            code=found[0] if (found := _CODE.fullmatch(str(error.get("Code", "")))) else "",
            status=status if isinstance(status, int) else 0,
            message=str(error.get("Message", "")),
            our_time=str(error.get("RequestTime", "")),
            its_time=str(error.get("ServerTime", "") or headers.get("date", "")),
            region=str(headers.get("x-amz-bucket-region", "") or error.get("Region", "")),
            operation=operation,
        )

    @property
    def is_expiry(self) -> bool:
        return self.code in _EXPIRED

    @property
    def is_unknown_key(self) -> bool:
        return self.code in _UNKNOWN_KEY

    @property
    def is_bare(self) -> bool:
        """Whether it has no code: an answer to HEAD has no content."""
        return not self.code or self.code.isdigit()


def explain_refusal(refusal: Refusal, address: str, bucket: str, name: str) -> TklbError:
    """The failure that a refusal means; `name` is the object of the request ("" for none)."""
    code, status = refusal.code, refusal.status
    if code == "NoSuchKey" or (status == 404 and name and refusal.is_bare):
        return TargetDamaged(address=address, reason=f"{name or 'what was asked for'} is missing")
    if code in _FULL or status == 507 or "no space left" in refusal.message.lower():
        return TargetFull(address=address)
    if refusal.is_expiry:
        return AccessRefused(address=address, reason="the session token has expired", is_transient=True)
    if code in _LACKING or status in _LACKING_STATUS:
        reason = f"the service answered {code or status}{f' to {refusal.operation}' * bool(refusal.operation)}"
        return TargetUnfit(address=address, reason=reason, status=status)
    if code in _PASSING or status in (408, 429) or status >= 500:
        return TargetUnreachable(address=address, reason=f"the service answered {code or status}", is_transient=True)
    if code == "NoSuchBucket" or (status == 404 and not name):
        reason = f"there is no bucket {bucket}: `tklb init` makes it"
        return TargetUnreachable(address=address, reason=reason, is_missing=True)
    return _explain_lasting(refusal, address, bucket, name)


def _explain_lasting(refusal: Refusal, address: str, bucket: str, name: str) -> TklbError:
    """A failure that no other try would change."""
    code, status = refusal.code, refusal.status
    if code == "RequestTimeTooSkewed":
        return AccessRefused(address=address, reason=_explain_skew(refusal))
    if code in _REFUSED:
        return AccessRefused(address=address, reason=_REFUSED[code].format(right=_name_right(refusal, address, bucket)))
    if code == "InvalidObjectState":
        reason = f"{name or 'an object'} lies in an archive class: have the service restore it there first"
        return TargetUnreachable(address=address, reason=reason)
    if code in _ELSEWHERE or status in (301, 307):
        return TargetUnreachable(address=address, reason=_explain_region(refusal, bucket))
    if status in (401, 403):
        reason = f"the service answered {code or status}; perhaps it wants {_name_right(refusal, address, bucket)}"
        return AccessRefused(address=address, reason=reason)
    reason = f"the service answered {code or status or 'what is no S3'}"
    return TargetUnreachable(address=address, reason=reason, status=status)


def _name_right(refusal: Refusal, address: str, bucket: str) -> str:
    """Give the right that the refused operation needs."""
    place = address.partition(f"/{bucket}/")[2].strip("/")
    objects = "/".join(filter(None, (bucket, place, "*")))
    return _RIGHTS.get(refusal.operation, _PUT_RIGHT).format(bucket=bucket, objects=objects)


def _explain_region(refusal: Refusal, bucket: str) -> str:
    region = refusal.region if _REGION.fullmatch(refusal.region) else ""
    where = f"region {region}" if region else "another region"
    return f"bucket {bucket} is in {where}: set s3.region in tklb.toml"


def _explain_skew(refusal: Refusal) -> str:
    """The difference of the two clocks, where the service gave its time."""
    ours, its = _parse_time(refusal.our_time), _parse_time(refusal.its_time)
    if ours is None or its is None:
        return "the clock of this machine is wrong: set it, then repeat the command"
    seconds = round((ours - its).total_seconds())
    return (
        f"the clock of this machine is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} that of the service"
    )


def _parse_time(text: str) -> datetime | None:
    """RFC 2616, ISO 8601 or the basic form that requests are signed with."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, TypeError):
            continue
        return moment if moment.tzinfo else None
    return None
