-- Forgets an ended job, with its events and the unique key that it may still hold. Locks that row, and those.
with gone as (
  delete from quarterdeck.job_history h
  where h.id = $1 and h.tenant = $2
  returning h.id, h.tenant, h.queue, h.unique_key
), events as (
  delete from quarterdeck.job_event e
  where e.job_id = $1 and exists (select from gone)
), keys as (
  delete from quarterdeck.unique_key u using gone g
  where u.tenant = g.tenant and u.queue = g.queue and u.key = g.unique_key and u.job_id = g.id
)
select g.id from gone g
