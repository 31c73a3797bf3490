import pytest

from quarterdeck.domain.rate import parse_rate


@pytest.mark.parametrize(
    ("text", "every", "burst"),
    [("100/1m", 0.6, 100), ("1/1s", 1.0, 1), ("5/10s", 2.0, 5), ("1/1d", 86_400.0, 1), ("2/PT1H", 1800.0, 2)],
)
def test_a_rate_is_a_distance_and_a_burst(text, every, burst):
    rate = parse_rate(text)
    assert (rate.text, rate.every, rate.burst) == (text, every, burst)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected text such as '100/1m'"),
        ("100", "expected"),
        ("100/", "expected"),
        ("/1m", "expected"),
        ("-1/1m", "expected"),
        ("1.5/1m", "expected"),
        ("٣/1m", "expected"),
        ("100/m", "in units such as"),
        ("100/-1s", "in units such as"),
        ("100/11y", "in units such as"),
        ("0/1m", "must allow 1 to 1000000"),
        ("1000001/1h", "must allow 1 to 1000000"),
        ("9999999999/1h", "expected"),
        ("1/0s", "more than 0"),
        ("1000000/1ms", "one in a microsecond"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_reason(text, words):
    with pytest.raises(ValueError, match=words):
        parse_rate(text)
