-- Takes back running jobs whose worker is gone: available again with the attempt refunded, discarded at the third crash,
-- cancelled where that was asked for. Locks those rows, in id order, and skips locked ones.
with recursive holder (worker) as (
  (select worker from quarterdeck.job where state = 'running' order by worker limit 1)
  union all
  select (select j.worker from quarterdeck.job j where j.state = 'running' and j.worker > holder.worker order by j.worker limit 1)
  from holder where holder.worker is not null
), lost as materialized (
  select l.id from quarterdeck.job l
  where l.state = 'running' and l.worker = any(array(
    select h.worker from holder h
    where h.worker is not null and not exists (select from quarterdeck.worker w where w.id = h.worker)))
  order by l.worker, l.id
  limit $1
  for update skip locked
), ended as (
  delete from quarterdeck.job j
  where j.id = any(array(select id from lost)) and j.worker is not null and (j.crashes >= 2 or j.cancel_requested_at is not null)
  returning j.*
), {free_unique_keys}, moved as (
  insert into quarterdeck.job_history as h ({history_columns})
  select {history_values}
  from ended e
  cross join lateral (select
    case when e.cancel_requested_at is null then 'discarded' else 'cancelled' end as state,
    case when e.cancel_requested_at is null then 'crashed' else 'cancel_requested' end as reason,
    case when e.cancel_requested_at is null then 'its worker was lost for the third time' end as detail,
    null as result, null as error, 1 as crash) o
  on conflict (id, queue) do nothing -- what a repeated insert has brought back goes, its first outcome stays
  returning h.id, h.queue, h.state, h.seq, {fed_history}
), freed as (
  update quarterdeck.job j
  set state = 'available', state_reason = 'crashed', state_detail = null, worker = null, attempt = j.attempt - 1,
    crashes = j.crashes + 1, seq = j.seq + 1,
    timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'rescued', '{"attempt":' || j.attempt || '}')
  where j.id = any(array(select id from lost)) and j.worker is not null and j.crashes < 2 and j.cancel_requested_at is null
  returning j.id, j.queue, j.state, j.seq, {fed_job}
), written as (
  select * from moved union all select * from freed
), {log_to_feed}
select w.id, w.queue, w.state, w.seq from written w
