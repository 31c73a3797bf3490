"""The chat: what is said in a room reaches everybody in it, in order, and those who come later."""

import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from examples.chat.app import DICE
from examples.chat.room import Room, as_line
from tests.support.processes import free_port

APP = "examples.chat.app:deck"


async def test_two_in_a_room_see_each_other_and_the_dice_and_a_late_one_sees_it_all(serve, run):
    async with serve(APP) as service:
        ada, ben = (run(service, "examples.chat.chat", "lobby", name) for name in ("ada", "ben"))
        for member in (ada, ben):
            await member.prints(lambda line: line == "(you are in the room)")
        for number in range(10):
            (ada, ben)[number % 2].type(f"line {number}")
        for member in (ada, ben):
            await member.printed_lines(11)
        ben.type("/roll 3d6")
        thrown = await ada.prints(lambda line: line.startswith("dice: ben rolls 3d6: "))
        total = thrown.rpartition(": ")[2]
        assert sum(map(int, total.partition(" = ")[0].split(" + "))) == int(total.partition(" = ")[2])
        await ben.printed_lines(12)
        assert ada.printed == ben.printed, "they see the same in the same order"
        for name, numbers in (("ada", range(0, 10, 2)), ("ben", range(1, 10, 2))):
            own = [line for line in ada.printed if line.startswith(f"{name}: ")]
            assert own == [f"{name}: line {number}" for number in numbers]
        ben.type("/roll a lot")
        await ada.prints(lambda line: line == "dice: I cannot roll that, ben. Say /roll 2d6")
        late = run(service, "examples.chat.chat", "lobby", "cyd")
        await late.printed_lines(13)
        assert late.printed == ada.printed
        elsewhere = run(service, "examples.chat.chat", "attic", "dan")
        await elsewhere.prints(lambda line: line == "(you are in the room)")
        assert elsewhere.printed == ["(you are in the room)"]
        assert await ada.leave() == 0


async def test_a_member_whose_connection_breaks_comes_back_and_misses_nothing(serve, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with serve(APP) as service:
        room = Room("lobby", "ada", service=service.url)
        frames = room.frames()
        assert (await anext(frames))["type"] == "subscribed"
        await room.enter("one")
        assert as_line(await anext(frames)) == "ada: one"
        await room._socket.close()
        async with httpx.AsyncClient(base_url=service.url, trust_env=False) as http:
            (await http.post("/v1/topics/chat.lobby/messages", json={"from": "ben", "text": "two"})).raise_for_status()
        assert (await anext(frames))["type"] == "subscribed"
        assert as_line(await anext(frames)) == "ben: two"
        await frames.aclose()


async def test_a_page_is_served_and_its_socket_is_in_the_room(serve, run):
    async with serve(APP) as service:
        bind = f"127.0.0.1:{free_port()}"
        server = run(service, "hypercorn", "examples.chat.page:app", "--bind", bind)
        await server.prints(lambda line: "Running on" in line)
        async with httpx.AsyncClient(base_url=f"http://{bind}", trust_env=False) as http:
            page = await http.get("/")
            assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
            assert "new WebSocket" in page.text
            assert (await http.get("/rooms/lobby/messages")).json() == []
            assert (await http.get("/rooms/no%20room/messages")).status_code == 404
            address = f"ws://{bind}/rooms/lobby?name="
            async with (
                connect(address + "ada&after=0", origin=f"http://{bind}", proxy=None) as ada,
                connect(address + "ben&after=0", origin=f"http://{bind}", proxy=None) as ben,
            ):
                for page_socket in (ada, ben):
                    assert json.loads(await page_socket.recv())["type"] == "subscribed"
                await ada.send("hello")
                await ben.recv()
                await ben.send("hello yourself")
                await ben.recv()
                said = [json.loads(await ada.recv())["data"] for _ in range(2)]
                assert said == [{"from": "ada", "text": "hello"}, {"from": "ben", "text": "hello yourself"}]
                await ada.send("/roll 1d1")
                assert json.loads(await ben.recv())["data"] == {"from": "dice", "text": "ada rolls 1d1: 1 = 1"}
            kept = (await http.get("/rooms/lobby/messages")).json()
            assert [message["data"]["from"] for message in kept] == ["ada", "ben", "dice"]
            last = kept[-2]["id"]
        async with connect(address + f"cyd&after={last}", proxy=None) as late:
            assert json.loads(await late.recv())["type"] == "subscribed"
            assert json.loads(await late.recv())["id"] == last + 1
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address + "eve", origin="http://evil.test", proxy=None):
                pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"from": "ada", "text": "\x1b[2Jgone"}, "ada: ?[2Jgone"),
        ({"from": 7, "text": "x"}, "(something that is no line of a chat)"),
        ("just text", "(something that is no line of a chat)"),
        (None, "(something that is no line of a chat)"),
    ],
)
def test_whatever_somebody_publishes_can_be_shown(data, line):
    assert as_line({"type": "message", "data": data}) == line


@pytest.mark.parametrize("dice", ["0d6", "51d6", "1d0", "1d1000", "d6", "1d", "1d6 ", ""])
def test_what_cannot_be_rolled(dice):
    assert DICE.fullmatch(dice) is None
    assert DICE.fullmatch("50d999")
