-- Puts running jobs back to wait, under their fences: retry, snooze, give back. Locks the rows by primary key. Leaves
-- alone what somebody asked to cancel: that has to end.
with written as (
  update quarterdeck.job j
  set state = o.state, state_reason = o.reason, state_detail = null, worker = null,
    run_at = case when o.delay is null then j.run_at else now() + make_interval(secs => o.delay) end,
    attempt = j.attempt - o.refund::integer,
    attempted_at = case when o.unstarted and j.attempt = 1 and j.crashes = 0 and strpos(j.timeline, '"snoozed"') = 0 then null else j.attempted_at end,
    errors = case when o.error is null then j.errors else j.errors || o.error::json end,
    seq = j.seq + 1, timeline = j.timeline || quarterdeck.entry(j.seq + 1, o.event, '{"attempt":' || j.attempt || '}')
  from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::boolean[], $8::boolean[], $9::text[])
    as o (id, fence, state, reason, event, delay, refund, unstarted, error)
  where j.id = any($1::uuid[]) and j.id = o.id and j.fence = o.fence and j.worker is not null and j.cancel_requested_at is null
  returning j.id, j.queue, j.state, j.seq, j.run_at, {fed_job}
), {log_to_feed}
select w.id, w.queue, w.state, w.seq, w.run_at from written w
