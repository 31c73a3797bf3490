-- Ends running jobs under their fences and moves them to the history. Locks the rows by primary key, in id order. A
-- requested cancel wins over every end but a returned result. Says running as `worker is not null`, which is the same
-- (constraint job_worker) but fits no partial index, so that only the primary key can serve.
with ended as (
  delete from quarterdeck.job j
  where j.id = any($1::uuid[]) and j.worker is not null
    and j.fence = ($2::bigint[])[array_position($1::uuid[], j.id)]
  returning j.*
), {free_unique_keys}, written as (
  select e.id, e.seq + 1 as first_seq, e.seq + 1 as seq, e.queue, e.kind, e.tenant, e.tags, e.workflow_id, e.batch_id
  from ended e
), {log_to_feed}
insert into quarterdeck.job_history as h ({history_columns})
select {history_values}
from ended e
join unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) as g (id, state, reason, detail, result, error)
  on g.id = e.id
cross join lateral (select
  case when e.cancel_requested_at is not null and g.state <> 'completed' then 'cancelled' else g.state end as state,
  case when e.cancel_requested_at is not null and g.state <> 'completed' then 'cancel_requested' else g.reason end as reason,
  g.detail, g.result, g.error, 0 as crash) o
returning h.id, h.queue, h.state, h.seq
