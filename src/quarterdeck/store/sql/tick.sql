-- All the polling of a process in one look, for all queues: what is due, expired or orphaned, which of my jobs somebody
-- wants cancelled, which queues have work, and which may hold only so much. Read only; each answer costs an index probe
-- or a loose index scan.
with recursive lane (queue) as (
  (select queue from quarterdeck.job where state = 'available' and concurrency_key is null order by queue limit 1)
  union all
  select (select j.queue from quarterdeck.job j
    where j.state = 'available' and j.concurrency_key is null and j.queue > lane.queue order by j.queue limit 1)
  from lane where lane.queue is not null
), holder (worker) as (
  (select worker from quarterdeck.job where state = 'running' order by worker limit 1)
  union all
  select (select j.worker from quarterdeck.job j where j.state = 'running' and j.worker > holder.worker order by j.worker limit 1)
  from holder where holder.worker is not null
)
select now() as now,
  (select j.run_at from quarterdeck.job j where j.state in ('scheduled', 'retryable') order by j.run_at limit 1) as next_due,
  coalesce((select j.expires_at from quarterdeck.job j
    where j.expires_at is not null and j.attempted_at is null and j.state in ('available', 'scheduled')
    order by j.expires_at limit 1) <= now(), false) as expired,
  exists (select from quarterdeck.worker w where w.lease_until < now())
    or exists (select from holder h where h.worker is not null
      and not exists (select from quarterdeck.worker w where w.id = h.worker)) as lapsed,
  array(select j.id from quarterdeck.job j
    where j.state = 'running' and j.cancel_requested_at is not null and j.worker = $1) as cancelling,
  exists (select from quarterdeck.job j where j.state = 'available' and j.crashes >= 2) as suspects,
  array(select lane.queue from lane where lane.queue is not null) as queues,
  array(select q.name from quarterdeck.queue q where q.max_depth is not null) as bounded
