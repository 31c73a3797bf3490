"""The stack's own commands, in its own environment, as processes: they start, work, tell their health, and stop."""

import asyncio
import contextlib
import json
import re
import secrets
import shlex
import subprocess
import urllib.parse

import asyncpg
import httpx
import pytest

from quarterdeck.store.migration_files import find_directory, read_migrations
from tests.containers.files import final, image_environment
from tests.containers.processes import SCRATCH, Container, boxed, busybox, can_box, check_health, postgres_programs
from tests.docs.documents import DOCS
from tests.support.commands import qd
from tests.support.processes import free_port
from tests.support.waiting import eventually

WORKERS = 3
PROXY = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
"""What Docker puts into containers on machines behind a proxy: nobody answers there."""


@pytest.fixture
def box():
    """Skips where containers cannot get a read-only root and a user of their own."""
    if not can_box():
        pytest.skip("this machine lets no process have mounts of its own")


@pytest.fixture
def start(directory):
    """Starts a container, which is killed in the end; in a box where this machine has any."""
    with contextlib.ExitStack() as stack:

        def started(service, name, replaced):
            container = Container(service, directory, name, replaced, box=can_box())
            stack.callback(container.kill)
            return container

        yield started


def healthy(service, replaced, **options):
    return check_health(service["healthcheck"]["test"], replaced, **options) == 0


@pytest.mark.timeout(120)
async def test_one_web_process_and_three_workers_start_together_work_and_tell_their_health(
    stack, database, memcached, start
):
    with pytest.raises(asyncpg.InvalidPasswordError):
        await database.connect(password="wrong")
    bind = image_environment()["QUARTERDECK_BIND"]
    places, containers = {}, {}
    for name in ("web", *(f"worker-{number}" for number in range(1, WORKERS + 1))):
        port = str(free_port())
        service = stack[name.partition("-")[0]]
        shown = {"postgres:5432": f"127.0.0.1:{database.port}", "memcached:11211": memcached.address}
        # All begin with an empty database: their migrations race.
        replaced = {**shown, bind: f"{bind.rpartition(':')[0]}:{port}"}
        containers[name] = start(service, name, replaced)
        places[name] = (service, {"8000": port}, f"http://127.0.0.1:{port}")

    async def all_healthy():
        for name, (service, replaced, _) in places.items():
            assert containers[name].exit_code is None, containers[name].log()
            assert await asyncio.to_thread(healthy, service, replaced, more=PROXY), containers[name].log()[-2000:]
        return True

    await eventually(all_healthy, 60)
    assert await applied(database) == [each.version for each in read_migrations(find_directory())]

    key = stack["web"]["environment"]["QUARTERDECK_API_KEYS"].partition(":")[2]
    async with httpx.AsyncClient(base_url=places["web"][2], trust_env=False, timeout=30) as http:
        assert (await http.get("/v1/workers")).status_code == 401
        http.headers["Authorization"] = f"Bearer {key}"

        async def run(number):
            count, rest = ("word_count", {"path": "hypercorn.toml"}), ("quarterdeck.sleep", {"seconds": 0.2})
            kind, args = count if number % 2 else rest
            job = {"kind": kind, "args": args}
            return (await http.post("/v1/jobs", json=job, headers={"Prefer": "wait=20"})).json()

        jobs = await asyncio.gather(*(run(number) for number in range(20)))
        assert {job["state"] for job in jobs} == {"completed"}
        workers = (await http.get("/v1/workers")).json()["items"]

        assert memcached.keys() == []
        large = {"kind": "quarterdeck.echo", "args": {"noise": secrets.token_hex(200_000)}}
        job = (await http.post("/v1/jobs", json=large, headers={"Prefer": "wait=20"})).json()

        async def is_cached():
            assert (await http.get(f"/v1/jobs/{job['id']}/result")).json() == large["args"]
            return memcached.keys()

        await eventually(is_cached)
    assert sorted(worker["role"] for worker in workers) == ["web", *["worker"] * WORKERS]
    assert {job["worker"] for job in jobs} <= {each["id"] for each in workers if each["role"] == "worker"}

    # What the page has its reader type next, on the machine or in the container.
    (command,) = set(
        re.findall(r"(?:^| )(qd .+)$", (DOCS / "how-to" / "run-with-compose.md").read_text(), re.MULTILINE)
    )
    asking = {"QUARTERDECK_URL": places["web"][2], "QUARTERDECK_API_KEY": key}
    typed = await asyncio.to_thread(qd, *shlex.split(command)[1:], settings=asking)
    assert typed.returncode == 0, typed.stderr

    password = stack["postgres"]["environment"]["POSTGRES_PASSWORD"]
    for container in containers.values():
        for unwanted in ("Traceback", key, password, urllib.parse.quote(password), json.dumps(password)[1:-1]):
            assert unwanted not in container.log(), container.log()

    # Each check sees that its own service is gone.
    for name in ("web", "worker-1"):
        service, replaced, _ = places[name]
        seconds = float(service["stop_grace_period"].removesuffix("s"))
        assert await asyncio.to_thread(containers[name].stop, seconds) == 0, containers[name].log()
        assert not await asyncio.to_thread(healthy, service, replaced)
    test = [*stack["postgres"]["healthcheck"]["test"], "--port", str(database.port)]
    assert check_health(test, {}, path=postgres_programs()) == 0
    await database.stop()
    assert check_health(test, {}, path=postgres_programs()) != 0

    async def unwell():
        return not await asyncio.to_thread(healthy, *places["worker-2"][:2])

    await eventually(unwell, 20)


async def applied(database):
    connection = await database.connect()
    rows = await connection.fetch("select version from quarterdeck.migration order by version")
    await connection.close()
    return [row["version"] for row in rows]


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("script", "code"),
    [(f"touch {SCRATCH}/x", 0), ("touch x", 1), ("touch /tmp/x", 1), ("chown 1 .", 1), ('test "$(id -u)" = 10001', 0)],
)
def test_a_boxed_process_is_what_a_container_s_process_is(script, code, directory):
    ran = subprocess.run(boxed(["sh", "-c", script]), capture_output=True, check=False, cwd=directory / "app")
    assert ran.returncode == code, ran.stderr


async def test_memcached_s_health_is_asked_with_what_its_image_has(stack, memcached, tmp_path):
    programs = busybox(tmp_path / "bin")
    test, replaced = stack["memcached"]["healthcheck"]["test"], {"11211": str(memcached.port)}
    assert check_health(test, replaced, path=programs) == 0
    memcached.freeze()
    assert check_health(test, replaced, path=programs) != 0, "it accepts and says nothing"
    memcached.kill()
    assert check_health(test, replaced, path=programs) != 0


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("box")
async def test_the_image_works_alone_with_a_volume_and_writes_nowhere_else(start):
    port = str(free_port())
    # The volume is all that it can write to.
    replaced = {":8000": f":{port}", image_environment()["QUARTERDECK_DATA_DIR"]: str(SCRATCH)}
    service = {"environment": {"QUARTERDECK_API_KEYS": "me:a-secret-of-some-length"}}
    container = start(service, "alone", replaced)
    (check,) = final("HEALTHCHECK CMD")
    test = ["CMD", *check.words]

    async def alive():
        assert container.exit_code is None, container.log()
        return await asyncio.to_thread(check_health, test, {"8000": port}, more=PROXY) == 0

    await eventually(alive, 25)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
        http.headers["Authorization"] = "Bearer a-secret-of-some-length"
        job = {"kind": "quarterdeck.echo", "args": {"said": "hello"}}

        async def done():
            answer = await http.post("/v1/jobs", json=job, headers={"Prefer": "wait=10"})
            return answer.json().get("result") == {"said": "hello"}

        await eventually(done, 20)
    assert await asyncio.to_thread(container.stop, 60) == 0, container.log()
    assert check_health(test, {"8000": port}) != 0


async def test_the_image_without_keys_serves_nobody(start):
    container = start({}, "open", {":8000": f":{free_port()}"})
    await eventually(lambda: container.exit_code is not None, 20)
    assert container.exit_code == 2
    assert "QUARTERDECK_API_KEYS" in container.log()
