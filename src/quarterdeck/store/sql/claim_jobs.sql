-- Claims due keyless jobs of one queue for a worker, but for those that are to run alone. Locks the rows it takes and skips locked ones. Takes nothing where
-- the queue is paused or has a limit of its own.
with open as materialized (
  select where not exists (select from quarterdeck.queue q
    where q.name = $1 and (q.paused or q.concurrency is not null or q.rate_every is not null))
), chosen as materialized (
  select c.id, c.seq, c.kind, c.tenant, c.tags, c.workflow_id, c.batch_id
  from quarterdeck.job c
  where c.queue = $1 and c.state = 'available' and c.concurrency_key is null and c.crashes < 2 and c.run_at <= now()
    and array_position($4::text[], c.kind) is not null
    and (c.expires_at is null or c.expires_at > now() or c.attempted_at is not null)
    and exists (select from open)
  order by c.priority, c.run_at, c.id
  limit $2
  for update skip locked
), written as (
  -- What is chosen is locked, so that it is what the update changes.
  select c.id, c.seq + 1 as first_seq, c.seq + 1 as seq, $1 as queue, c.kind, c.tenant, c.tags, c.workflow_id, c.batch_id
  from chosen c
), {log_to_feed}
update quarterdeck.job j
set state = 'running', state_reason = null, state_detail = null, attempt = j.attempt + 1, fence = j.fence + 1, worker = $3,
  attempted_at = now(), progress = null, seq = j.seq + 1,
  timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'started', '{"attempt":' || j.attempt + 1 || '}')
where j.id = any(array(select id from chosen)) and j.queue = $1 and j.state = 'available'
returning {job_columns}
