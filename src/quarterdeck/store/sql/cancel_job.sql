-- Cancels a waiting job, or asks for the cancel of a running one. Locks that row.
with ended as (
  delete from quarterdeck.job j
  where j.id = $1 and j.tenant = $2 and j.state in ('pending', 'scheduled', 'available', 'retryable')
  returning j.*
), {free_unique_keys}, moved as (
  insert into quarterdeck.job_history as h ({history_columns})
  select {history_values}
  from ended e
  cross join (select 'cancelled' as state, null as reason, null as detail, null as result, null as error, 0 as crash) o
  on conflict (id, queue) do nothing -- what a repeated insert has brought back goes, its first outcome stays
  returning h.id, h.queue, h.state, h.seq, h.worker, {fed_history}
), asked as (
  update quarterdeck.job j
  set cancel_requested_at = now(), state_reason = 'cancel_requested', seq = j.seq + 1,
    timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'cancel_requested', null)
  where j.id = $1 and j.tenant = $2 and j.worker is not null and j.cancel_requested_at is null
  returning j.id, j.queue, j.state, j.seq, j.worker, {fed_job}
), written as (
  select * from moved union all select * from asked
), {log_to_feed}
select w.id, w.queue, w.state, w.seq, w.worker from written w
