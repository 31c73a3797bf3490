-- Gives back everything a stopping worker still holds, whether it knows of it or not. Locks those rows, in id order.
with written as (
  update quarterdeck.job j
  set state = 'available', state_reason = 'interrupted', state_detail = null, worker = null, attempt = j.attempt - 1,
    seq = j.seq + 1, timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'interrupted', '{"attempt":' || j.attempt || '}')
  where j.id = any(array(
      select r.id from quarterdeck.job r
      where r.state = 'running' and r.worker = $1 and r.cancel_requested_at is null
      order by r.id for update))
    and j.state = 'running' and j.worker = $1 and j.cancel_requested_at is null
  returning j.id, j.queue, j.state, j.seq, {fed_job}
), {log_to_feed}
select w.id, w.queue, w.state, w.seq from written w
