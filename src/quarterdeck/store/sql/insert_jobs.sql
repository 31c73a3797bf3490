-- Inserts a group of jobs, in id order. Locks its own new rows, and those of their unique and idempotency keys, in key
-- order. Hands due jobs of this worker's queues straight to it (they start life running) where nothing waits there, no
-- limit or pause holds, and its lease is alive. Leaves out a job whose key is taken; no job may bring both sorts of key,
-- and no two jobs of a group the same one.
with input as materialized (
  select i.*, coalesce(i.run_at, now() + make_interval(secs => i.delay), now()) as due
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::smallint[], $7::timestamptz[], $8::float8[],
    $9::timestamptz[], $10::float8[], $11::float8[], $12::integer[], $13::jsonb[], $14::text[], $15::jsonb[], $16::text[],
    $17::uuid[], $18::boolean[], $19::text[], $20::float8[], $21::text[], $22::text[], $23::text[], $24::bytea[], $25::text[])
    as i (id, queue, tenant, kind, args, priority, run_at, delay, expires_at, ttl, timeout, max_attempts, retry, tags, metadata,
      traceparent, parent_id, hand_off, unique_key, unique_period, method, path, key, body_hash, submit)
), lane as materialized (
  select q.queue
  from (select distinct queue from input where hand_off) q
  where exists (select from quarterdeck.worker w where w.id = $26 and w.lease_until > now())
    and not exists (select from quarterdeck.queue s
      where s.name = q.queue and (s.paused or s.concurrency is not null or s.rate_every is not null))
    and not exists (select from quarterdeck.job a
      where a.queue = q.queue and a.state = 'available' and a.concurrency_key is null)
    and not exists (select from quarterdeck.job a
      where a.queue = q.queue and a.state = 'available' and a.concurrency_key is not null)
), placed as materialized (
  select i.*, coalesce(i.expires_at, i.due + make_interval(secs => i.ttl)) as expiry,
    i.hand_off and l.queue is not null and i.due <= now()
      and coalesce(i.expires_at, i.due + make_interval(secs => i.ttl), 'infinity') > now() as handed
  from input i left join lane l on l.queue = i.queue
), unique_keys as (
  insert into quarterdeck.unique_key as u (tenant, queue, key, job_id, held_until)
  select p.tenant, p.queue, p.unique_key, p.id, now() + make_interval(secs => p.unique_period)
  from placed p where p.unique_key is not null
  order by p.tenant, p.queue, p.unique_key
  on conflict (tenant, queue, key) do update
    set job_id = excluded.job_id, held_until = excluded.held_until, ended = false
    where u.ended and u.held_until <= now()
  returning u.job_id
), idempotency_keys as (
  insert into quarterdeck.idempotency as y (tenant, method, path, key, body_hash, job_id, answer)
  select p.tenant, p.method, p.path, p.key, p.body_hash, p.id, json_build_object('submit', p.submit::json, 'facts',
    json_build_object('id', p.id,
      'state', case when p.handed then 'running' when p.due > now() then 'scheduled' else 'available' end,
      'seq', 1 + p.handed::integer, 'created_at', now(), 'run_at', p.due, 'expires_at', p.expiry,
      'attempted_at', case when p.handed then now() end, 'worker', case when p.handed then $26 end))
  from placed p where p.key is not null
  order by p.tenant, p.method, p.path, p.key
  on conflict (tenant, method, path, key) do update
    set body_hash = excluded.body_hash, job_id = excluded.job_id, answer = excluded.answer, created_at = now()
    where y.created_at < now() - interval '24 hours'
  returning y.job_id
), written as (
  insert into quarterdeck.job as j (id, queue, tenant, kind, state, args, priority, run_at, expires_at, ttl, timeout, max_attempts,
    retry, tags, metadata, traceparent, parent_id, unique_key, attempt, fence, worker, attempted_at, seq, timeline)
  select p.id, p.queue, p.tenant, p.kind,
    case when p.handed then 'running' when p.due > now() then 'scheduled' else 'available' end,
    p.args, p.priority, p.due, p.expiry, p.ttl, p.timeout, p.max_attempts, p.retry,
    case when p.tags is null then '{}' else array(select json_array_elements_text(p.tags::json)) end,
    coalesce(p.metadata, '{}'), p.traceparent, p.parent_id, p.unique_key,
    p.handed::integer, p.handed::integer, case when p.handed then $26 end, case when p.handed then now() end, 1 + p.handed::integer,
    quarterdeck.entry(1, 'submitted', case when p.due > now() then '{"state":"scheduled"}' else '{"state":"available"}' end)
      || case when p.handed then quarterdeck.entry(2, 'started', '{"attempt":1}') else '' end
  from placed p
  where (p.unique_key is null or p.id in (select job_id from unique_keys))
    and (p.key is null or p.id in (select job_id from idempotency_keys))
  order by p.id
  on conflict (id, queue) do nothing
  returning j.id, j.state, j.seq, j.created_at, j.run_at, j.expires_at, j.attempted_at, j.worker, j.queue,
    1 as first_seq, j.kind, j.tenant, j.tags, j.workflow_id, j.batch_id
), {log_to_feed}
select w.id, w.state, w.seq, w.created_at, w.run_at, w.expires_at, w.attempted_at, w.worker from written w
