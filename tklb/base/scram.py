"""The verifier of a password as PostgreSQL keeps it: who has it cannot log in with it (RFC 5803, SCRAM-SHA-256)."""

import base64
import hashlib
import hmac
import secrets

from tklb.model.secret import Secret

_ROUNDS = 4096


def make_verifier(password: Secret) -> str:
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.reveal().encode(), salt, _ROUNDS)
    client, server = (hmac.digest(salted, word, "sha256") for word in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ROUNDS, *parts)
