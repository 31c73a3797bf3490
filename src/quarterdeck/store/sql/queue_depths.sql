-- Counts the unfinished jobs of every queue by state, and tells for how many seconds the first available one has been due.
-- Locks nothing.
select j.queue, j.state, count(*) as count,
  case when j.state = 'available' then greatest(date_part('epoch', now() - min(j.run_at)), 0) end as oldest
from quarterdeck.job j
group by j.queue, j.state
