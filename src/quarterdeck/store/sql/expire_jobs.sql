-- Discards jobs that were not started in time. Skips locked rows.
with late as materialized (
  select l.id from quarterdeck.job l
  where l.expires_at <= now() and l.attempted_at is null and l.state in ('available', 'scheduled')
  order by l.expires_at, l.id
  limit $1
  for update skip locked
), ended as (
  delete from quarterdeck.job j
  where j.id = any(array(select id from late)) and j.attempted_at is null and j.state in ('available', 'scheduled')
  returning j.*
), {free_unique_keys}, written as (
  insert into quarterdeck.job_history as h ({history_columns})
  select {history_values}
  from ended e
  cross join (select 'discarded' as state, 'expired' as reason, null as detail, null as result, null as error, 0 as crash) o
  on conflict (id, queue) do nothing -- what a repeated insert has brought back goes, its first outcome stays
  returning h.id, h.queue, h.state, h.seq, {fed_history}
), {log_to_feed}
select w.id, w.queue, w.state, w.seq from written w
