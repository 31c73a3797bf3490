-- Runs an ended job again as a new generation, or a scheduled or retryable one now. Locks that row, in whichever table, and
-- the one of its unique key. Nothing comes back where the state does not allow it; `taken` where another job has the key.
with target as materialized (
  select h.id, h.tenant, h.queue, h.unique_key
  from quarterdeck.job_history h
  where h.id = $1 and h.tenant = $2
  for update
), keys as (
  insert into quarterdeck.unique_key as u (tenant, queue, key, job_id)
  select t.tenant, t.queue, t.unique_key, t.id from target t where t.unique_key is not null
  on conflict (tenant, queue, key) do update
    set held_until = case when u.job_id = excluded.job_id then u.held_until end, job_id = excluded.job_id, ended = false
    where u.job_id = excluded.job_id or (u.ended and u.held_until <= now())
  returning u.job_id
), e as (
  delete from quarterdeck.job_history h using target t
  where h.id = $1 and h.id = t.id and (t.unique_key is null or exists (select from keys))
  returning h.*
), returned as (
  insert into quarterdeck.job as j (id, queue, tenant, kind, state, args, priority, max_attempts, generation, fence, seq, timeout,
    retry, created_at, run_at, expires_at, ttl, tags, metadata, errors, timeline, unique_key, concurrency_key, cache_key, cache_ttl,
    workflow_id, batch_id, parent_id, needs, open_needs, webhook, traceparent)
  select e.id, e.queue, e.tenant, e.kind, 'available', e.args, e.priority, e.max_attempts, e.generation + 1, e.fence, e.seq + 1,
    e.timeout, e.retry, e.created_at, now(),
    case when e.ttl is not null then now() + make_interval(secs => e.ttl) when e.expires_at > now() then e.expires_at end, e.ttl,
    e.tags, e.metadata, e.errors, e.timeline || quarterdeck.entry(e.seq + 1, 'retried', '{"generation":' || e.generation + 1 || '}'),
    e.unique_key, e.concurrency_key, e.cache_key, e.cache_ttl, e.workflow_id, e.batch_id, e.parent_id, e.needs, e.open_needs,
    e.webhook, e.traceparent
  from e
  returning {job_columns}, j.seq as first_seq, j.batch_id
), due as (
  update quarterdeck.job j
  set state = 'available', state_reason = null, state_detail = null, run_at = now(),
    expires_at = case when j.ttl is not null and j.attempted_at is null then now() + make_interval(secs => j.ttl) else j.expires_at end,
    seq = j.seq + 1, timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'available', null)
  where j.id = $1 and j.tenant = $2 and j.state in ('scheduled', 'retryable')
  returning {job_columns}, j.seq as first_seq, j.batch_id
), written as (
  select * from returned union all select * from due
), {log_to_feed}
select t.taken, {job_columns}
from (select exists (select from target) and not exists (select from e) as taken) t
left join written j on true
where t.taken or j.id is not null
