async def test_a_submit_answers_202_with_the_stored_job_and_where_it_is(client):
    answer = await client.submit("add", {"left": 1, "right": 2})
    assert answer.status == 202
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    print(answer.body, answer.headers)
    r = await client.get(answer.headers["Location"]+"/result", Prefer="wait=5")
    print(r.status, r.body, r.headers)
