import ipaddress

import pytest

from quarterdeck.handlers.addresses import Allowed, is_public, read_address

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:200::1",
    "2a00:1450:4001::1",
    "64:ff9b::808:808",  # NAT64 of a public address
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",  # IPv4-compatible
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::7f00:1",  # Teredo
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4
    "2002:0808:0808::",
    "2606:4700::5efe:7f00:1",  # ISATAP
    "2606:4700::200:5efe:a00:1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_what_anybody_can_reach_is_public(text):
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_what_only_some_can_reach_or_stands_for_it_is_not(text):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["127.0.0.1", "10.1.2.3", "169.254.169.254"])
def test_an_ipv4_address_written_as_ipv6_is_the_ipv4_address(text):
    assert read_address(f"::ffff:{text}") == ipaddress.ip_address(text)
    assert not is_public(read_address(f"::ffff:{text}"))


@pytest.mark.parametrize(
    ("item", "host", "address", "permitted"),
    [
        ("10.0.0.0/8", "a.test", "10.1.2.3", True),
        ("10.0.0.0/8", "a.test", "11.1.2.3", False),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", "127.0.0.2", False),
        ("fd00::/8", "a.test", "fd12::1", True),
        ("fd00::/8", "a.test", "10.0.0.1", False),
        ("db.internal", "db.internal", "10.0.0.1", True),
        ("db.internal", "DB.Internal.", "10.0.0.1", True),
        ("db.internal", "x.db.internal", "10.0.0.1", False),
        ("db.internal", "internal", "10.0.0.1", False),
        ("db.internal", "10.0.0.1", "10.0.0.1", False),
    ],
)
def test_an_operator_allows_names_and_networks(item, host, address, permitted):
    assert Allowed([item]).permits(host, ipaddress.ip_address(address)) is permitted


def test_nothing_is_allowed_where_nothing_is_said():
    assert not Allowed().permits("", ipaddress.ip_address("10.0.0.1"))
