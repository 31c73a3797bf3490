-- Tells how many more jobs some queues may take, of those that have a max_depth: read only. Counts no further than that.
select q.name, q.max_depth, q.max_depth - free.jobs - keyed.jobs - running.jobs - parked.jobs as room
from quarterdeck.queue q
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state = 'available' and j.concurrency_key is null limit q.max_depth) c) free
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state = 'available' and j.concurrency_key is not null limit q.max_depth) c) keyed
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state = 'running' limit q.max_depth) c) running
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state in ('pending', 'scheduled', 'retryable') limit q.max_depth) c) parked
where q.name = any($1::text[]) and q.max_depth is not null
