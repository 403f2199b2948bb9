"""Ask an S3 service through boto3, which does requests, signatures and the search for credentials.

Takes an operation of the S3 API and its parameters; gives the answer, or raises the failure it means. Touches the
network, and the files that hold credentials. The retries of boto3 are off, and none of its messages reaches a log.
"""

import base64
import contextlib
import logging
import os
import ssl
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import botocore.auth
import botocore.config
from botocore import UNSIGNED
from botocore import exceptions as errors
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.parsers import ResponseParserError
from botocore.session import Session
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_match_hostname import CertificateError

from tklb.config.schema import S3Config
from tklb.errors import AccessRefused, TargetUnreachable, TklbError
from tklb.model.target import TargetUrl
from tklb.storage.s3.answers import Refusal, explain_refusal
from tklb.storage.s3.credentials import check_boto_files, own_credentials

Answer = Mapping[str, Any]
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_CONNECTIONS = 40  # more than a configuration may ask for side by side
_SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_SIGNER = "tklb-s3v4"
_MEASURED, _MEASURED_SECONDS = 3, 3
_EXPIRED = (
    "the session token has expired, or is not valid: give new credentials, or credential_process in the profile, which "
    "gives new ones by itself"
)
_SOURCE_EXPIRED = "the source of the credentials gives such that have expired: run it by hand to see why"

for _library in ("boto3", "botocore", "s3transfer", "urllib3"):  # headers and signatures are not for a log
    logging.getLogger(_library).propagate = False
    logging.getLogger(_library).addHandler(logging.NullHandler())


class _KnownDigest(botocore.auth.S3SigV4Auth):  # type: ignore[misc]
    """Signs with the digest that a request has already. botocore would read the whole content again for that.

    A service that checks signatures then refuses any other content, with or without TLS.
    """

    def payload(self, request: AWSRequest) -> str:
        known = request.headers.get("x-amz-checksum-sha256")
        if not known:
            return str(getattr(request.data, "known_sha256", "") or super().payload(request))
        return base64.b64decode(known).hex()


botocore.auth.AUTH_TYPE_MAPS[_SIGNER] = _KnownDigest


class S3Service:
    """The service of one bucket. It connects with the first request. Several threads may use it at once."""

    def __init__(self, address: TargetUrl, config: S3Config) -> None:
        self._address, self._config = address, config
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._client: BaseClient | None = None
        self._refused: set[str] = set()  # session tokens that the service refused

    @property
    def region(self) -> str:
        with self.explain():
            return str(self._client_or_connect().meta.region_name)

    def ask(self, operation: str, parameters: Answer, *, about: str = "", accept: tuple[str, ...] = ()) -> Answer:
        """Send one request and give its answer; an empty one where the service refuses with a code in `accept`.

        `about` is the object of the request: TargetDamaged says that it is missing. Raises TargetUnreachable,
        AccessRefused and TargetFull too.
        """
        with self.explain(about):
            client = self._client_or_connect()
            token = self._read_token()
            try:
                answer: Answer = getattr(client, operation)(Bucket=self._address.bucket, **parameters)
            except errors.ClientError as exc:
                if Refusal.read(exc.response).code in accept:
                    return {}
                failure = self._find_reason(client, operation, exc)
                self._raise_expiry(failure, token)
                raise failure from exc
        return answer

    def _find_reason(self, client: BaseClient, operation: str, failure: errors.ClientError) -> errors.ClientError:
        """Give the refusal that has a reason: that of a HEAD has no content, so it needs another request."""
        refusal = Refusal.read(failure.response)
        prefix = f"{self._address.path}/" if self._address.path else ""
        if operation.startswith("head_") and refusal.is_bare and refusal.status < 500:
            try:
                client.list_objects_v2(Bucket=self._address.bucket, Prefix=prefix, MaxKeys=1)
            except errors.ClientError as exc:
                return errors.ClientError(exc.response, failure.operation_name)
        return failure

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextlib.contextmanager
    def explain(self, name: str = "") -> Iterator[None]:
        """Turn a failure of the service, the network or the system into one of the target."""
        try:
            yield
        except errors.ClientError as exc:
            refusal = Refusal.read(exc.response, str(exc.operation_name))
            raise explain_refusal(refusal, self._address.text, self._address.bucket, name) from exc
        except (errors.BotoCoreError, HTTPError, ResponseParserError, OSError, ValueError, KeyError) as exc:
            raise _failure_of_connection(exc, self._address.text, self._config.profile) from exc

    def _raise_expiry(self, failure: errors.ClientError, token: str) -> None:
        """Raise what an expired session token means. Another try helps where its source has a new one by now.

        Some services call an expired token an unknown access key.
        """
        refusal = Refusal.read(failure.response)
        if not refusal.is_expiry and not (token and refusal.is_unknown_key):
            return
        self._refused.update({token} if token else ())
        if self._read_token() == token:  # another thread may have the new one
            self.close()
        is_new = self._read_token() not in self._refused
        if not is_new:
            self.close()
        raise AccessRefused(address=self._address.text, reason=_EXPIRED, is_transient=is_new) from failure

    def _read_token(self) -> str:
        """The session token in use, "" for none."""
        with self._lock:
            self._client_or_connect()
            credentials = self._session.get_credentials() if self._session else None
            try:
                return str(credentials.get_frozen_credentials().token or "") if credentials else ""
            except RuntimeError as exc:  # botocore's
                raise AccessRefused(address=self._address.text, reason=_SOURCE_EXPIRED) from exc

    def _client_or_connect(self) -> BaseClient:
        with self._lock:
            if self._client is None:
                self._session, self._client = _connect(self._address, self._config)
            return self._client


def measure_answer(address: TargetUrl, config: S3Config, clock: Callable[[], float]) -> float:
    """Seconds that a service takes for a small answer over an open connection: the median of three.

    The requests are not signed, so they need no credentials; a refusal counts as an answer. Raises TargetUnreachable.
    """
    seconds = []
    connected = S3Service(address, config).explain()
    with connected, contextlib.closing(_connect(address, config, is_signed=False)[1]) as client:
        for _ in range(_MEASURED + 1):
            begun = clock()
            with contextlib.suppress(errors.ClientError):
                client.head_bucket(Bucket=address.bucket)
            seconds.append(clock() - begun)
    return statistics.median(seconds[1:])


def _connect(address: TargetUrl, config: S3Config, *, is_signed: bool = True) -> tuple[Session, BaseClient]:
    """A client of boto3, which connects when it is used, and its session, which has the credentials."""
    session = Session(profile=config.profile or None)
    if is_signed:
        _choose_credentials(session, config)
    endpoint = address.endpoint or config.endpoint or None
    style = config.addressing if config.addressing != "auto" or not endpoint else "path"
    seconds = (_CONNECT_SECONDS, _READ_SECONDS) if is_signed else (_MEASURED_SECONDS, _MEASURED_SECONDS)
    settings = botocore.config.Config(
        signature_version=None if is_signed else UNSIGNED,
        connect_timeout=seconds[0],
        read_timeout=seconds[1],
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        proxies={"http": config.proxy, "https": config.proxy} if config.proxy else None,
        s3={"addressing_style": style},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = boto3.Session(botocore_session=session).client(
        "s3",
        region_name=config.region or session.get_config_variable("region") or "us-east-1",
        endpoint_url=endpoint,
        verify=_certificates(session, config),
        config=settings,
    )
    client.meta.events.register_first("choose-signer.s3", _choose_signer)
    client.meta.events.register_last("before-parameter-build.s3", _stay_here)
    return session, client


def _stay_here(**event: Any) -> None:
    """Follow no redirect to another region: botocore never stops where each answer is a redirect."""
    event["context"].setdefault("s3_redirect", {})["redirected"] = True


def _choose_signer(signature_version: object, context: Answer, **_: object) -> str | None:
    return _SIGNER if "s3v4" in (signature_version, f"s3{context.get('auth_type')}") else None


def _choose_credentials(session: Session, config: S3Config) -> None:
    """Let botocore search our file for credentials first, before the environment."""
    own = own_credentials(config)
    if own is not None:
        session.set_config_variable("credentials_file", os.fspath(own))
        session.get_component("credential_provider").remove("env")
    files = [session.get_config_variable(name) for name in ("credentials_file", "config_file")]
    check_boto_files(None if own else files[0], files[1])


def _certificates(session: Session, config: S3Config) -> str | None:
    """The file of authorities to trust: the configured one, else that of this machine."""
    if config.ca_file:
        try:
            ssl.create_default_context(cafile=config.ca_file)
        except OSError as exc:
            raise TargetUnreachable(address=config.ca_file, reason="certificate file cannot be read") from exc
    system = _SYSTEM_CERTIFICATES if os.path.exists(_SYSTEM_CERTIFICATES) else None
    return config.ca_file or session.get_config_variable("ca_bundle") or system


def _failure_of_connection(exc: Exception, address: str, profile: str) -> TklbError:
    """The failure that a missing answer, or missing credentials, means."""
    match exc:
        case errors.NoCredentialsError():
            reason = "there are no credentials: tklb.toml(5) says where they may be, /etc/tklb/credentials for one"
        case errors.ProfileNotFound():
            reason = f"there is no profile {profile or 'of that name'} in the credentials file"
        case errors.PartialCredentialsError():
            reason = f"the credentials lack {exc.kwargs.get('cred_var')}"
        case errors.ConfigParseError():
            reason = f"{exc.kwargs.get('path')} is no credentials file"
        case errors.CredentialRetrievalError() | errors.MetadataRetrievalError() | errors.TokenRetrievalError():
            reason = f"no credentials came from {exc.kwargs.get('provider', 'their source')}: run it by hand to see why"
        case errors.SSOError() | errors.LoginError() | errors.NoAuthTokenError():
            reason = "the login that the credentials come from has ended: log in again"
        case _:
            return _unreachable(exc, address)
    return AccessRefused(address=address, reason=reason)


def _unreachable(exc: Exception, address: str) -> TargetUnreachable:
    causes = _causes(exc)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TargetUnreachable(address=address, reason=f"certificate refused: {cause.verify_message}")
        if isinstance(cause, CertificateError):
            return TargetUnreachable(address=address, reason="certificate refused: it is that of another host")
    reason = next((one.strerror for one in causes if isinstance(one, OSError) and one.strerror), "the connection broke")
    match exc:
        case errors.ConnectTimeoutError() | errors.ReadTimeoutError():
            reason = "no answer in time"
        case errors.ProxyConnectionError():
            reason = f"the proxy does not let through: {reason}"
        case errors.ConnectionError() | errors.HTTPClientError() | errors.IncompleteReadError() | HTTPError():
            pass
        case ResponseParserError() | ValueError() | KeyError() if not isinstance(exc, errors.BotoCoreError):
            reason = "the service answered what is no S3"
        case OSError():
            return TargetUnreachable(address=address, reason=reason)
        case _:
            return TargetUnreachable(address=address, reason=f"its settings are no use ({type(exc).__name__})")
    return TargetUnreachable(address=address, reason=reason, is_transient=True)


def _causes(exc: BaseException) -> list[BaseException]:
    """A failure and those that caused it, the outermost first."""
    found: list[BaseException] = [exc]
    for above in found:  # which grows meanwhile
        wrapped = getattr(above, "kwargs", {}).get("error"), getattr(above, "reason", None)
        below = (*wrapped, *above.args, above.__cause__, above.__context__)
        found += [one for one in below if isinstance(one, BaseException) and one not in found]
    return found
