-- Takes back the crash that a rescue counted for these jobs: their worker was away, not dead. Only where they have not
-- ended since. Locks the rows by primary key.
with written as (
  update quarterdeck.job j
  set crashes = j.crashes - 1, seq = j.seq + 1,
    timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'updated', '{"crashes":' || j.crashes - 1 || '}')
  from unnest($1::uuid[], $2::bigint[]) as i (id, fence)
  where j.id = any($1::uuid[]) and j.id = i.id and j.crashes > 0
    and (j.fence > i.fence or (j.fence = i.fence and j.worker is null and j.state_reason = 'crashed'))
  returning j.id, j.queue, j.state, j.seq, {fed_job}
), {log_to_feed}
select w.id, w.queue, w.state, w.seq from written w
