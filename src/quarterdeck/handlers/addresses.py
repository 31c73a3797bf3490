"""Which addresses outbound calls may reach: public ones, and those that the operator allows by name or network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Written out, because `is_global` says yes to multicast, to addresses that stand for another one (NAT64, 6to4), and
# to others that differ between patch releases of Python. From IANA's registries of special-purpose addresses.
_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; the metadata service of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, and the host agent inside one cloud
        "169.254.0.0/16",  # link-local; the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays to 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which wraps an IPv4 address, is one of them
        "2001:db8::/32",
        "2002::/16",  # 6to4, which wraps an IPv4 address
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""What stands before the IPv4 address in the last 64 bits (RFC 5214, section 6.1)."""

_LAST_32 = 0xFFFFFFFF

_METADATA_NAMES = frozenset(
    ("metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal")
)
"""Names of the services that hand out a machine's credentials, in the clouds that give them one."""


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet could reach `address`, as far as its number tells."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address in _NAT64:  # how IPv6-only networks reach IPv4: as public as what it stands for
        return is_public(ipaddress.IPv4Address(int(address) & _LAST_32))
    if (int(address) >> 32) & _LAST_32 in _ISATAP:
        return False
    return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)


def read_address(text: str) -> Address:
    """The address, and of an IPv4 address that is written as IPv6 (`::ffff:…`) the IPv4 address. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def known_address(host: str) -> Address | None:
    """The address that `host` is, in whatever way the number is written; None where it is a name."""
    host = _folded(host)
    try:
        return read_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f.1, 2130706433
    except (OSError, ValueError):
        return None


def name_to_look_up(host: str) -> str:
    """`localhost` for all its names (RFC 6761, section 6.3), of which a resolver may know only this one."""
    name = _folded(host)
    return "localhost" if name == "localhost" or name.endswith(".localhost") else host


def is_metadata_name(host: str) -> bool:
    """Whether a cloud's metadata service is called so, whatever a name server here says of it."""
    return _folded(host) in _METADATA_NAMES


class Allowed:
    """What the operator allows besides public addresses: names, each with all its addresses, and networks."""

    def __init__(self, items: Iterable[str] = ()) -> None:
        """`items` are names of hosts, addresses and networks such as `10.0.0.0/8`."""
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for item in items:
            try:
                self._networks.append(ipaddress.ip_network(item))
            except ValueError:
                self._names.add(_folded(item))

    def names(self, host: str) -> bool:
        """Whether `host` is allowed with whatever addresses it has."""
        return _folded(host) in self._names

    def permits(self, host: str, address: Address) -> bool:
        """Whether `address`, which `host` was resolved to, is allowed."""
        return self.names(host) or any(address in network for network in self._networks)


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")
