import json

import pytest

from quarterdeck.store import jsonb

GREATEST, LEAST = 2**64 - 1, -(2**63)


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        ("1" + "0" * 300, 1e300),
        ("-1" + "0" * 25, -1e25),
        (str(GREATEST), GREATEST),
        (str(GREATEST + 1), float(GREATEST + 1)),
        (str(LEAST), LEAST),
        (str(LEAST - 1), float(LEAST - 1)),
        ("12345678901234567890.5", 12345678901234567890.5),
        ("123", 123),
        ('"1' + "0" * 300 + '"', "1" + "0" * 300),
        (
            '{"a": [1' + "0" * 30 + ', "ü\\u0000 \\ud800", 1.5, null, true]}',
            {"a": [1e30, "ü\0 \ud800", 1.5, None, True]},
        ),
    ],
)
def test_a_whole_number_beyond_64_bit_was_a_double(stored, value):
    got = jsonb.decode(b"\x01" + stored.encode())
    assert (got, type(got)) == (value, type(value))
    if isinstance(got, dict):
        assert type(got["a"][0]) is float


def test_what_is_encoded_is_text_behind_the_number_of_the_format():
    data = jsonb.encode({"ü": [1, 1.5]})
    assert (data[:1], json.loads(data[1:])) == (b"\x01", {"ü": [1, 1.5]})
