"""Where calls may go: whatever is written, and whatever a name server says, nothing private is reached."""

import asyncio
import itertools
import socket
import ssl
from pathlib import Path

import pytest

from quarterdeck.domain.errors import ArgsError
from quarterdeck.handlers import Outbound
from quarterdeck.handlers import dialer as module
from quarterdeck.handlers.dialer import CallFailed, TargetRefused
from tests.support.web_servers import always, reply, web_server

# Each with {port}: that of a server which listens on 127.0.0.1, and of another one on ::1.
LOOPBACK_FORMS = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.0.0.2:{port}/",
    "http://127.255.255.254:{port}/",
    "http://0x7f.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://00000177.0.0.1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://localhost.localdomain:{port}/",
    "http://ip6-localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://127。0。0。1:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    "http://127.0.0.1:{port}#@good.example/",
    "http://127.0.0.1:{port}?@good.example/",
    "HTTP://127.0.0.1:{port}/",
    "http://127.0.0.1:000{port}/",
    "https://127.0.0.1:{port}/",
]
ELSEWHERE = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://10.0.0.1/",
    "http://192.168.0.1/",
    "http://172.16.0.1:5432/",
    "http://[fe80::1]/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
]


@pytest.fixture
async def guarded():
    """Reaches public addresses only."""
    outbound = Outbound()
    yield outbound
    await outbound.close()


def resolving(*answers):
    """A name server that gives one answer after the other, and again."""
    answers = itertools.cycle(answers)

    async def resolve(host, port):
        return next(answers)

    return resolve


@pytest.fixture
def opened(monkeypatch):
    """What was connected to, in place of connecting: nothing here leaves the machine."""
    opened = []

    async def refuse(host, port, **options):
        opened.append(host)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(module.asyncio, "open_connection", refuse)
    return opened


async def test_no_way_to_write_a_loopback_address_reaches_one(call, guarded):
    async with web_server() as four, web_server(host="::1", port=four.port) as six:
        reached = []
        for form in LOOPBACK_FORMS:
            try:
                await call(form.format(port=four.port), through=guarded)
                reached.append(form)
            except (ArgsError, TargetRefused, CallFailed):
                pass
        assert reached == []
        assert (four.connections, six.connections) == (0, 0)
        through = Outbound(["127.0.0.1"])
        assert (await call(four.url(), through=through))["body"] == "ok", "the servers are there"
        await through.close()


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_private_and_metadata_addresses_are_refused_before_anything_is_opened(call, guarded, opened, url):
    with pytest.raises(TargetRefused, match="not on the public Internet"):
        await call(url, through=guarded)
    assert opened == []


async def only_localhost(host, port):
    """A resolver that knows nothing but what the machine's own table says."""
    if host != "localhost":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return ["127.0.0.1"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "LocalHost.", "a.localhost", "a.b.localhost.", "127.0.0.1.", "127.1", "0x7f.1."]
)
async def test_a_loopback_name_is_refused_for_good_and_not_looked_for_again(call, opened, host):
    with pytest.raises(TargetRefused, match="not on the public Internet"):
        await call(f"http://{host}/", through=Outbound(resolve=only_localhost))
    assert opened == []
    with pytest.raises(CallFailed, match="Connection refused"):
        await call(f"http://{host}/", through=Outbound(["127.0.0.1"], resolve=only_localhost))
    assert opened == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal.", "instance-data"])
async def test_a_metadata_service_is_refused_by_its_name_too_unless_that_is_allowed(call, opened, host):
    for answer in (["169.254.169.254"], ["93.184.216.34"]):
        with pytest.raises(TargetRefused, match="not on the public Internet"):
            await call(f"http://{host}/", through=Outbound(resolve=resolving(answer)))
    with pytest.raises(TargetRefused, match="not on the public Internet"):  # where another cloud's name is none
        await call(f"http://{host}/", through=Outbound(["169.254.169.254"], resolve=only_localhost))
    assert opened == []
    with pytest.raises(CallFailed, match="cannot find the host"):
        await call(f"http://{host}/", through=Outbound([host], resolve=only_localhost))
    for allowed in (host, "169.254.0.0/16"):
        with pytest.raises(CallFailed, match="Connection refused"):
            await call(f"http://{host}/", through=Outbound([allowed], resolve=resolving(["169.254.169.254"])))
    assert opened == ["169.254.169.254"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["93.184.216.34", "::1"],
        ["2606:4700::1111", "::ffff:10.0.0.1"],
        [*(f"93.184.216.{number}" for number in range(49)), "10.0.0.1"],
        ["fe80::1%1"],
    ],
)
async def test_one_address_that_is_not_public_refuses_them_all(call, opened, answer):
    with pytest.raises(TargetRefused) as refused:
        await call("http://rebind.test/", through=Outbound(resolve=resolving(answer)))
    assert opened == []
    assert "rebind.test" in str(refused.value)
    assert not any(address in str(refused.value) for address in answer), "the inside's addresses are not told"


async def test_a_name_that_changes_its_address_is_connected_to_at_the_checked_one(call, opened):
    """A name server that alternates: what was checked is what is connected to, and it is asked once a call."""
    through = Outbound(resolve=resolving(["93.184.216.34"], ["127.0.0.1"]))
    for _ in range(200):
        with pytest.raises(CallFailed):
            await call("http://rebind.test/", through=through)
        with pytest.raises(TargetRefused):
            await call("http://rebind.test/", through=through)
    assert set(opened) == {"93.184.216.34"}
    assert len(opened) == 200


async def test_a_redirect_is_vetted_like_the_first_address(call):
    async with web_server() as sink:
        for location in (
            sink.url(),
            f"//127.0.0.1:{sink.port}",
            "http://169.254.169.254/",
            f"http://[::1]:{sink.port}",
        ):
            async with web_server(always(reply(302, b"", {"Location": location})), host="127.0.0.9") as server:
                through = Outbound(["127.0.0.9"])
                with pytest.raises(TargetRefused):
                    await call(server.url(host="127.0.0.9"), through=through, follow_redirects=True)
                assert len(server.asked) == 1
                await through.close()
        assert sink.connections == 0


async def test_a_kept_connection_is_no_way_around_the_check(call):
    """It is found again by the name it was made for, not by the address it leads to."""
    async with web_server() as server:
        through = Outbound(["inside.test"], resolve=resolving(["127.0.0.1"]))
        await call(server.url(host="inside.test"), through=through)
        with pytest.raises(TargetRefused):
            await call(server.url(host="outside.test"), through=through)
        with pytest.raises(TargetRefused):
            await call(server.url(), through=through)
        await through.close()
    assert len(server.asked) == 1


async def test_the_next_address_is_tried_where_one_does_not_answer(call):
    async with web_server() as server:
        through = Outbound(["127.0.0.0/8"], resolve=resolving(["127.0.0.77", "127.0.0.1"]))
        assert (await call(server.url(host="two.test"), through=through))["status"] == 200
        assert server.asked[0].headers["host"] == f"two.test:{server.port}"
        await through.close()


@pytest.mark.parametrize(
    ("port", "called"), [(80, True), (443, True), (1024, True), (8080, True), (22, False), (25, False), (1023, False)]
)
async def test_below_1024_only_the_ports_of_the_web_are_called(call, opened, port, called):
    with pytest.raises(CallFailed if called else TargetRefused):
        await call(f"http://93.184.216.34:{port}/", through=Outbound())
    assert bool(opened) is called
    with pytest.raises(CallFailed):
        await call(f"http://10.0.0.1:{port}/", through=Outbound(["10.0.0.0/8"]))


async def test_somebody_else_at_the_other_end_is_not_spoken_to(call, monkeypatch):
    real = asyncio.open_connection

    async def diverted(host, port, **options):
        return await real("127.0.0.1", port, **options)

    async with web_server() as server:
        monkeypatch.setattr(module.asyncio, "open_connection", diverted)
        through = Outbound(resolve=resolving(["93.184.216.34"]))
        with pytest.raises(CallFailed, match="cannot connect"):
            await call(server.url(host="diverted.test"), through=through)
    assert server.asked == []


async def test_a_look_up_that_takes_for_ever_is_a_failed_attempt(call, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.05)

    async def never(host, port):
        await asyncio.Event().wait()

    with pytest.raises(CallFailed, match=r"no connection to slow.test:80 within 0.05 s"):
        await call("http://slow.test/", through=Outbound(resolve=never))


# TLS


@pytest.fixture
def certificate():
    """The file of a certificate for target.test with its key."""
    return Path(__file__).parents[2] / "data" / "tls" / "target.test.pem"


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(call, certificate):
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    names = []
    serving.sni_callback = lambda _socket, name, _context: names.append(name)
    trusting = ssl.create_default_context(cafile=certificate)
    async with web_server(tls=serving) as server:
        through = Outbound(["127.0.0.1"], resolve=resolving(["127.0.0.1"]), tls=trusting)
        result = await call(server.url(host="target.test", scheme="https"), through=through)
        assert result["status"] == 200
        assert names == ["target.test"]
        assert server.asked[0].headers["host"] == f"target.test:{server.port}"
        with pytest.raises(CallFailed, match=r"certificate of other.test:.* is not to be trusted"):
            await call(server.url(host="other.test", scheme="https"), through=through)
        await through.close()
        untrusting = Outbound(["127.0.0.1"], resolve=resolving(["127.0.0.1"]))
        with pytest.raises(CallFailed, match="not to be trusted"):
            await call(server.url(host="target.test", scheme="https"), through=untrusting)
        assert len(server.asked) == 1


async def test_the_environment_names_no_certificates_to_trust(call, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    async with web_server(tls=serving) as server:
        through = Outbound(["127.0.0.1"], resolve=resolving(["127.0.0.1"]))
        with pytest.raises(CallFailed, match="not to be trusted"):
            await call(server.url(host="target.test", scheme="https"), through=through)


async def test_what_speaks_no_tls_is_a_failed_attempt(call):
    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(CallFailed, match=r"no TLS with 127\.0\.0\.1"):
        await call(f"https://127.0.0.1:{port}/")
    server.close()


async def test_from_https_it_never_goes_back_to_http(call, certificate):
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    async with (
        web_server() as plain,
        web_server(always(reply(302, b"", {"Location": plain.url()})), tls=serving) as server,
    ):
        trusting = ssl.create_default_context(cafile=certificate)
        through = Outbound(["127.0.0.1"], resolve=resolving(["127.0.0.1"]), tls=trusting)
        with pytest.raises(TargetRefused, match="from https to http"):
            await call(server.url(host="target.test", scheme="https"), through=through, follow_redirects=True)
        await through.close()
    assert plain.connections == 0
