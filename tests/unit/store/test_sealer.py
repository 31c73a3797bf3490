"""What is put into memcached says nothing, contains nothing, and is believed only where it is ours."""

import datetime as dt
import re
import uuid

import msgspec
import pytest

from quarterdeck.store.sealer import FORMAT, HEAD, MAX_SEALED, Sealer
from quarterdeck.store.shelf import Version

AT = dt.datetime(2031, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
VERSION = Version("acme", uuid.UUID(int=7), 1, 3, AT)
OTHERS = {
    "tenant": "acme2",
    "job_id": uuid.UUID(int=8),
    "generation": 2,
    "seq": 4,
    "finalized_at": AT + dt.timedelta(microseconds=1),
}


@pytest.fixture
def sealer():
    return Sealer(b"s" * 32)


def test_a_result_comes_back_as_it_was(sealer):
    key = sealer.key(VERSION)
    for result in (b"null", b'"\\u0000"', bytes(range(256)), b"\r\nset admin 0 0 1\r\nx\r\n"):
        assert sealer.open(key, sealer.seal(key, result)) == result


@pytest.mark.parametrize("tenant", ["é" * 200, "a b", "\r\nflush_all\r\n", "😀" * 250, "", "x" * 10_000])
def test_a_key_is_hexadecimal_whatever_it_is_made_of(sealer, tenant):
    assert re.fullmatch(rb"v1:[0-9a-f]{64}", sealer.key(msgspec.structs.replace(VERSION, tenant=tenant)))


@pytest.mark.parametrize("field", OTHERS)
def test_every_part_of_a_version_makes_another_key(sealer, field):
    assert sealer.key(msgspec.structs.replace(VERSION, **{field: OTHERS[field]})) != sealer.key(VERSION)


def test_another_installation_has_other_keys_and_believes_nothing(sealer):
    other = Sealer(b"t" * 32)
    key = sealer.key(VERSION)
    assert other.key(VERSION) != key
    assert other.open(key, sealer.seal(key, b"1")) is None


def test_what_was_stored_under_another_key_is_not_believed(sealer):
    one, two = sealer.key(VERSION), sealer.key(msgspec.structs.replace(VERSION, tenant="other"))
    assert sealer.open(two, sealer.seal(one, b"1")) is None


def test_no_bit_can_be_changed(sealer):
    key = sealer.key(VERSION)
    sealed = sealer.seal(key, b'{"a":1}')
    for position in range(len(sealed)):
        for bit in (1, 128):
            changed = bytearray(sealed)
            changed[position] ^= bit
            assert sealer.open(key, bytes(changed)) is None


def test_nothing_can_be_cut_off_or_added(sealer):
    key = sealer.key(VERSION)
    sealed = sealer.seal(key, b"123")
    assert sealer.open(key, sealed + b"4") is None
    for length in range(len(sealed)):
        assert sealer.open(key, sealed[:length]) is None


def test_what_is_too_large_is_neither_made_nor_looked_at(sealer):
    key = sealer.key(VERSION)
    largest = b"x" * (MAX_SEALED - HEAD)
    assert sealer.open(key, sealer.seal(key, largest)) == largest
    assert sealer.seal(key, largest + b"x") is None
    assert sealer.open(key, FORMAT + b"x" * MAX_SEALED) is None
