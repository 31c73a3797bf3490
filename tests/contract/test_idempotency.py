"""`Idempotency-Key`: the same request again finds the first answer again."""

import asyncio

import pytest

from quarterdeck.store.jobs import JobStore

BODY = {"kind": "hold", "args": {}, "tags": ["a"], "metadata": {"x": 1.5, "ü": [1e300, -0.0]}, "priority": 3}


async def post(client, key, body=BODY, **headers):
    return await client.call("POST", "/v1/jobs", body=body, headers={"Idempotency-Key": key, **headers})


async def test_the_first_answer_comes_again_byte_for_byte(client, connection, gate):
    first = await post(client, "k1")
    assert first.status == 202
    assert "Idempotent-Replayed" not in first.headers
    gate.set()
    await client.get(f"/v1/jobs/{first.json['id']}", Prefer="wait=10")
    again = await post(client, "k1")
    assert (again.status, again.body) == (202, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert await connection.fetchval("select count(*) from quarterdeck.job_history") == 1


@pytest.mark.parametrize("options", [{}, {"delay": "1h"}, {"ttl": "1h"}, {"queue": "other"}, {"retry": {"base": 1}}])
async def test_every_sort_of_submit_is_replayed_as_it_was(client, options):
    body = {**BODY, **options}
    first = await post(client, "k", body)
    assert first.status == 202
    assert (await post(client, "k", body)).body == first.body


async def test_white_space_does_not_make_another_body(client):
    first = await client.call("POST", "/v1/jobs", text=b'{"kind":"hold"}', headers={"Idempotency-Key": "k"})
    again = await client.call("POST", "/v1/jobs", text=b'{ "kind" : "hold" }', headers={"Idempotency-Key": "k"})
    assert (first.status, again.body) == (202, first.body)


async def test_another_body_with_the_same_key_is_refused(client):
    assert (await post(client, "k")).status == 202
    (await post(client, "k", {**BODY, "priority": 4})).problem(422, "idempotency-mismatch")


async def test_refusals_are_not_kept(client):
    assert (await post(client, "k", {**BODY, "priority": 99})).status == 422
    assert (await post(client, "k")).status == 202


async def test_an_old_key_is_free_again(client, connection):
    first = await post(client, "k")
    await connection.execute("update quarterdeck.idempotency set created_at = now() - interval '25 hours'")
    second = await post(client, "k", {**BODY, "priority": 4})
    assert (second.status, second.json["id"] != first.json["id"]) == (202, True)


async def test_with_prefer_wait_the_key_finds_the_job_and_waits_afresh(client, gate):
    first = await post(client, "k", Prefer="wait=0")
    assert first.status == 202
    gate.set()
    again = await post(client, "k", Prefer="wait=10")
    assert (again.status, again.json["id"], again.json["state"]) == (200, first.json["id"], "completed")
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "x" * 10_000])
async def test_a_key_that_cannot_be_one_is_refused(client, key):
    (await post(client, key)).problem(422, "invalid")


async def test_a_unique_hit_is_replayed_too(client, connection):
    unique = {**BODY, "unique": {"key": "u"}, "delay": "1h"}
    holder = await client.call("POST", "/v1/jobs", body=unique)
    assert holder.status == 202
    first = await post(client, "k", unique)
    assert (first.status, first.json["id"], first.headers["Quarterdeck-Duplicate"]) == (200, holder.json["id"], "true")
    await client.call("POST", f"/v1/jobs/{holder.json['id']}/cancel")
    again = await post(client, "k", unique)
    assert (again.status, again.body, again.headers["Quarterdeck-Duplicate"]) == (200, first.body, "true")
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_a_job_with_both_keys_is_stored_once_and_replayed(client, connection, gate):
    both = {**BODY, "unique": {"key": "u"}}
    first = await post(client, "k", both)
    assert (first.status, first.json["unique_key"]) == (202, "u")
    gate.set()
    ended = await client.get(f"/v1/jobs/{first.json['id']}", Prefer="wait=10")
    assert ended.json["state"] == "completed"
    assert (await post(client, "k", both)).body == first.body
    assert await connection.fetchval("select count(*) from quarterdeck.unique_key") == 0


async def test_while_the_first_is_in_flight_in_this_process_the_second_is_told_so(client, monkeypatch):
    insert = JobStore.insert_jobs
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(self, *arguments):
        entered.set()
        await go.wait()
        return await insert(self, *arguments)

    monkeypatch.setattr(JobStore, "insert_jobs", slow)
    first = asyncio.create_task(post(client, "k"))
    await entered.wait()
    (await post(client, "k")).problem(409, "idempotency-in-flight")
    go.set()
    assert (await first).status == 202
    assert (await post(client, "k")).body == (await first).body


async def test_a_lost_reply_is_no_second_job(client, connection, monkeypatch):
    insert = JobStore.insert_jobs
    tries = []

    async def lossy(self, *arguments):
        inserted = await insert(self, *arguments)
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionResetError("the reply was lost")
        return inserted

    monkeypatch.setattr(JobStore, "insert_jobs", lossy)
    first = await post(client, "k", {**BODY, "delay": "1h"})
    assert first.status == 202
    assert (await post(client, "k", {**BODY, "delay": "1h"})).body == first.body
    assert await connection.fetchval("select count(*) from quarterdeck.job") == 1


@pytest.mark.parametrize("result", ["3", '{"a": [1.50, "é"], "b": null}', '"\\u0000"', "null"])
async def test_an_earlier_job_is_replayed_with_its_result_and_its_progress(client, connection, result):
    body = {"kind": "add", "args": {"left": 1, "right": 2}, "unique": {"period": "1h"}}
    held = await client.call("POST", "/v1/jobs", body=body, headers={"Prefer": "wait=10"})
    assert held.json["state"] == "completed"
    # Ended rows never change; what a handler could have left behind is put there in their stead.
    await connection.execute("alter table quarterdeck.job_history disable trigger job_history_is_final")
    await connection.execute(
        "update quarterdeck.job_history set result = $1, progress = $2", result, '{"fraction": 0.5, "message": null}'
    )
    first = await post(client, "k", body)
    assert first.headers["Quarterdeck-Duplicate"] == "true"
    again = await post(client, "k", body)
    assert (again.status, again.body) == (200, first.body)
    assert (again.headers["Idempotent-Replayed"], again.json["progress"]["fraction"]) == ("true", 0.5)
