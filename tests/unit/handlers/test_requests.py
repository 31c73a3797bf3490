"""Whatever fits the arguments makes one request on the wire, and says what was given."""

import h11
import hypothesis.strategies as st
from hypothesis import given

from quarterdeck.domain.errors import ArgsError
from quarterdeck.handlers import built_in
from quarterdeck.handlers.http import KIND
from quarterdeck.handlers.outbound import _request, joined, read_url

HANDLER = next(handler for handler in built_in() if handler.kind == KIND)
TEXTS = st.text(max_size=40) | st.text(alphabet="/?#%@:\\\r\n\t \0.0aZé\u3002", max_size=40)


def on_the_wire(url, headers, body=b""):
    request = _request("POST", url, headers, body)
    sending = h11.Connection(h11.CLIENT)
    head = sending.send(h11.Request(method=request.method, target=request.url.target, headers=request.headers))
    return head + (sending.send(h11.Data(data=body)) or b"") + sending.send(h11.EndOfMessage())


def read(wire):
    """The one request that a server finds in it, and nothing behind it."""
    receiving = h11.Connection(h11.SERVER)
    receiving.receive_data(wire)
    request, *parts = events(receiving)
    assert receiving.trailing_data[0] == b""
    return request, b"".join(bytes(part.data) for part in parts if isinstance(part, h11.Data))


def events(receiving):
    while True:
        event = receiving.next_event()
        yield event
        if isinstance(event, h11.EndOfMessage):
            return


@given(host=st.just("example.com") | TEXTS, rest=TEXTS)
def test_any_url_that_is_taken_makes_one_request_line_to_its_host(host, rest):
    try:
        url = HANDLER.bind({"url": f"http://{host}/{rest}"})["url"]
    except ArgsError:
        return
    parsed = read_url(url)
    request, _ = read(on_the_wire(parsed, []))
    assert request.target.startswith((b"/", b"?"))
    assert dict(request.headers)[b"host"] == parsed.netloc
    assert b"@" not in parsed.netloc


@given(headers=st.dictionaries(TEXTS | st.sampled_from(["X-A", "Cookie", "Accept"]), TEXTS, max_size=5), body=TEXTS)
def test_any_headers_that_are_taken_arrive_as_they_were_given(headers, body):
    try:
        args = HANDLER.bind({"url": "http://example.com/", "headers": headers, "body": body})
    except (ArgsError, UnicodeEncodeError):
        return
    given = [(name, value.strip()) for name, value in args["headers"].items()]
    content = body.encode("utf-8", "replace")
    request, came = read(on_the_wire(read_url(args["url"]), given, content))
    assert came == content
    expected = [(name.lower().encode(), value.encode("latin-1")) for name, value in given]
    assert [pair for pair in request.headers if pair[0] not in (b"host", b"content-length")] == expected


@given(location=TEXTS)
def test_wherever_a_redirect_leads_it_is_a_url_that_can_be_called_or_an_error(location):
    try:
        url = joined(read_url("https://example.com/a/b?c"), location)
    except ValueError:
        return
    assert url.scheme in ("http", "https")
    assert url.host
    read(on_the_wire(url, []))
