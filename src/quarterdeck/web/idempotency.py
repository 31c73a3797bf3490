"""The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): asked for often, created once."""

from __future__ import annotations

import hashlib

import msgspec

from quarterdeck.domain.errors import FieldError
from quarterdeck.domain.job import IdempotencyKey
from quarterdeck.web.endpoint import Call
from quarterdeck.web.problems import INVALID, Refusal

MAX_CHARACTERS = 255


def idempotency_key(call: Call, body: object) -> IdempotencyKey | None:
    """The caller's key, within its tenant, method and path, if there is one.

    Two bodies are the same where they say the same in the same order, whatever white space is between. Raises Refusal
    for a key that is empty, too long, unprintable or given twice.
    """
    given = call.request.headers.getlist("Idempotency-Key")
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not can_be_key(key):
        detail = f"must be given once, with 1 to {MAX_CHARACTERS} printable ASCII characters"
        raise Refusal(
            INVALID, f"Idempotency-Key: {detail}", errors=[FieldError("", f"header Idempotency-Key {detail}")]
        )
    return keyed(call.principal.tenant, call.request.method, call.request.path, key, body)


def can_be_key(text: str) -> bool:
    """Whether it has the length and the characters of a key."""
    return 1 <= len(text) <= MAX_CHARACTERS and text.isascii() and text.isprintable()


def keyed(tenant: str, method: str, path: str, key: str, body: object) -> IdempotencyKey:
    """A key in its place, with the hash of the body that it came with."""
    return IdempotencyKey(tenant, method, path, key, hashlib.sha256(msgspec.json.encode(body)).digest())
