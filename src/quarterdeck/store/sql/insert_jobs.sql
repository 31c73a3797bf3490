-- Inserts a group of jobs, in id order. Locks only its own new rows. Hands due jobs of this worker's queues straight to
-- it (they start life running) where nothing waits there, no limit or pause holds, and its lease is alive.
with input as materialized (
  select i.*, coalesce(i.run_at, now() + make_interval(secs => i.delay), now()) as due
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::smallint[], $7::timestamptz[], $8::float8[],
    $9::timestamptz[], $10::float8[], $11::float8[], $12::integer[], $13::jsonb[], $14::text[], $15::jsonb[], $16::text[],
    $17::uuid[], $18::boolean[])
    as i (id, queue, tenant, kind, args, priority, run_at, delay, expires_at, ttl, timeout, max_attempts, retry, tags, metadata,
      traceparent, parent_id, hand_off)
), lane as materialized (
  select q.queue
  from (select distinct queue from input where hand_off) q
  where exists (select from quarterdeck.worker w where w.id = $19 and w.lease_until > now())
    and not exists (select from quarterdeck.queue s
      where s.name = q.queue and (s.paused or s.concurrency is not null or s.rate_every is not null))
    and not exists (select from quarterdeck.job a
      where a.queue = q.queue and a.state = 'available' and a.concurrency_key is null)
    and not exists (select from quarterdeck.job a
      where a.queue = q.queue and a.state = 'available' and a.concurrency_key is not null)
), placed as (
  select i.*, coalesce(i.expires_at, i.due + make_interval(secs => i.ttl)) as expiry,
    i.hand_off and l.queue is not null and i.due <= now()
      and coalesce(i.expires_at, i.due + make_interval(secs => i.ttl), 'infinity') > now() as handed
  from input i left join lane l on l.queue = i.queue
)
insert into quarterdeck.job as j (id, queue, tenant, kind, state, args, priority, run_at, expires_at, ttl, timeout, max_attempts,
  retry, tags, metadata, traceparent, parent_id, attempt, fence, worker, attempted_at, seq, timeline)
select p.id, p.queue, p.tenant, p.kind,
  case when p.handed then 'running' when p.due > now() then 'scheduled' else 'available' end,
  p.args, p.priority, p.due, p.expiry, p.ttl, p.timeout, p.max_attempts, p.retry,
  case when p.tags is null then '{}' else array(select json_array_elements_text(p.tags::json)) end,
  coalesce(p.metadata, '{}'), p.traceparent, p.parent_id,
  p.handed::integer, p.handed::integer, case when p.handed then $19 end, case when p.handed then now() end, 1 + p.handed::integer,
  quarterdeck.entry(1, 'submitted', case when p.due > now() then '{"state":"scheduled"}' else '{"state":"available"}' end)
    || case when p.handed then quarterdeck.entry(2, 'started', '{"attempt":1}') else '' end
from placed p
order by p.id
on conflict (id, queue) do nothing
returning j.id, j.state, j.seq, j.created_at, j.run_at, j.expires_at, j.attempted_at
