"""Sealer: what is put into memcached, and what is believed of what comes back.

Whoever can reach a memcached can write into it: it knows no accounts. So a key says nothing and can contain nothing
but hexadecimal digits, and a value counts only with a signature that binds it to its key.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from quarterdeck.store.shelf import Version

MAX_SEALED = 512 * 1024
"""Bytes of a value. Larger ones take memcached several pieces, and us as long to fetch and check as to read them."""
FORMAT = b"\x01"
_SIGNATURE = 32
HEAD = len(FORMAT) + _SIGNATURE
"""Bytes before the result."""


class Sealer:
    """Makes keys of versions, and signed values of results: HMAC-SHA-256 (RFC 2104), by an installation's secret."""

    def __init__(self, secret: bytes) -> None:
        self._naming = hmac.digest(secret, b"quarterdeck cache key", "sha256")
        self._signing = hmac.digest(secret, b"quarterdeck cache value", "sha256")

    def key(self, version: Version) -> bytes:
        """The key of a version: 67 characters that tell nothing about it."""
        return b"v1:" + hmac.digest(self._naming, msgspec.json.encode(version), "sha256").hex().encode()

    def seal(self, key: bytes, result: bytes) -> bytes | None:
        """What is stored under a key; None where it would be too large."""
        if len(result) + HEAD > MAX_SEALED:
            return None
        return b"".join((FORMAT, self._signature(key, result), result))

    def open(self, key: bytes, sealed: bytes) -> bytes | None:
        """The result, where this installation has stored exactly that under exactly this key; else None."""
        if not HEAD <= len(sealed) <= MAX_SEALED or not sealed.startswith(FORMAT):
            return None
        result = memoryview(sealed)[HEAD:]  # a mebibyte is copied once, and only where it is believed
        signature = sealed[len(FORMAT) : HEAD]
        return bytes(result) if hmac.compare_digest(signature, self._signature(key, result)) else None

    def _signature(self, key: bytes, result: bytes | memoryview) -> bytes:
        # All keys are equally long, so that key and result cannot be mistaken for another pair.
        signing = hmac.new(self._signing, key, hashlib.sha256)
        signing.update(result)
        return signing.digest()
