"""The page on built-in kinds says what the code says."""

import asyncio
import json

import pytest

from quarterdeck.domain.job import DEFAULT_TIMEOUT
from quarterdeck.handlers import answers, built_in, dialer, http, http_args, outbound, sleep
from tests.docs.documents import DOCS, REFERENCE, blocks, code, sections
from tests.docs.reader import console_blocks, reader_of, serve
from tests.support.processes import cleaned_up
from tests.support.web_servers import reply, web_server

PAGE = REFERENCE / "built-in-kinds.md"
GUIDE = DOCS / "how-to" / "call-a-url.md"
KINDS = {handler.kind: handler for handler in built_in()}


def in_words(seconds):
    if seconds is None:
        return "none"
    return f"{seconds / 60:g} minutes" if seconds == DEFAULT_TIMEOUT else f"{seconds:g} seconds"


def test_every_kind_is_there_with_its_time_limit():
    rows = sections(PAGE)["Built-in kinds"].table("Kind")
    assert {code(row[0]): row[2] for row in rows} == {
        kind: in_words(handler.defaults.timeout) for kind, handler in KINDS.items()
    }
    assert f"0 to {sleep.Seconds.__metadata__[0].le}" in PAGE.read_text()


def test_every_argument_of_a_call_is_there():
    rows = sections(PAGE)["Arguments"].table("Argument")
    assert [code(row[0]) for row in rows] == list(KINDS[http.KIND].args_type.__struct_fields__)
    (methods,) = [row[1] for row in rows if row[0] == "`method`"]
    assert methods.replace("`", "").replace(" or ", ", ").split(", ") == list(http_args.Method.__args__)


def test_every_field_of_a_result_is_there():
    rows = sections(PAGE)["The result"].table("Field")
    packed = outbound.Answer(200, [("content-type", "x/y")], b"\xff", truncated=True)
    plain = outbound.Answer(200, [("content-type", "application/json")], b"1", truncated=False)
    fields = {"status", "headers", "elapsed", "url", *answers.body_of(packed), *answers.body_of(plain)}
    assert {code(row[0]) for row in rows} == fields
    (example,) = [block for block in blocks(PAGE) if block.language == "json"]
    assert set(json.loads(example.text)) <= fields


@pytest.mark.parametrize(
    "words",
    [
        f"at most {http_args.MAX_HEADERS} headers",
        f"each value at most {http_args.MAX_HEADER} characters",
        f"at most {outbound.MAX_URL} characters",
        f"{outbound.MAX_BODY // 1024} KiB of a body are read and kept",
        f"At most {answers.MAX_HEADERS} headers and {answers.MAX_HEADERS_SIZE // 1024} KiB",
        f"never more than {answers.MAX_RETRY_AFTER / 3600:g} hours",
        f"at most {http.MAX_REDIRECTS} are followed",
        f"A connection waits {outbound.KEEP_SECONDS:g} seconds",
        f"at most {outbound.MAX_KEPT} wait",
        f"may take {dialer.CONNECT_SECONDS:g} seconds together",
        f"ports 80, 443, and {dialer.FIRST_FREE_PORT} and above",
    ],
)
def test_a_figure_is_the_one_in_the_code(words):
    assert words in PAGE.read_text()


async def test_the_guide_goes_as_it_says(tmp_path, database_url):
    busy = asyncio.Event()

    async def shop(asked, writer):
        headers = {"Content-Type": "application/json"}
        match asked.target:
            case "/orders" if json.loads(asked.body)["metres"] == 30:
                writer.write(reply(201, b'{"order": 7}', headers))
            case "/busy" if busy.is_set():
                writer.write(reply())
            case "/busy":
                busy.set()
                writer.write(reply(503, b"", {"Retry-After": "0"}))
            case _:
                writer.write(reply(404))

    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_ALLOW_PRIVATE_TARGETS": "127.0.0.1"}
    async with web_server(shop) as server:
        with cleaned_up(serve(tmp_path, None, **settings)) as service:
            await service.wait_until_ready()
            reader = reader_of(service, tmp_path)
            reader._replacements["http://127.0.0.1:9000"] = server.url("")
            for block in console_blocks(GUIDE):
                await reader.follow(block)
            await service.stop()
