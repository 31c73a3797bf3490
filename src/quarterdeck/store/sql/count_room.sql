-- Tells how many more jobs some queues may take, of those that have a max_depth: read only. Counts no further than that,
-- in the order of an index, so that no plan collects all of them first.
select q.name, q.max_depth, q.max_depth - free.jobs - keyed.jobs - running.jobs - parked.jobs as room
from quarterdeck.queue q
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state = 'available' and j.concurrency_key is null
  order by j.priority, j.run_at limit q.max_depth) c) free
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state = 'available' and j.concurrency_key is not null
  order by j.priority, j.concurrency_key limit q.max_depth) c) keyed
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state = 'running' order by j.concurrency_key limit q.max_depth) c) running
cross join lateral (select count(*) as jobs from (select from quarterdeck.job j
  where j.queue = q.name and j.state in ('pending', 'scheduled', 'retryable') order by j.state limit q.max_depth) c) parked
where q.name = any($1::text[]) and q.max_depth is not null
