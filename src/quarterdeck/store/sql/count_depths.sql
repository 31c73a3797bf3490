-- Counts the unfinished jobs of some queues by state, all at one moment: read only. Each queue costs a range of each
-- index that leads by queue, read from the index alone where the table was vacuumed.
select n.name, now() as as_of, free.jobs + keyed.jobs as available, running.jobs as running, parked.scheduled,
  parked.retryable, parked.pending, date_part('epoch', now() - least(free.oldest, keyed.oldest)) as oldest_available_age
from unnest($1::text[]) as n (name)
cross join lateral (select count(*) as jobs, min(j.run_at) as oldest from quarterdeck.job j
  where j.queue = n.name and j.state = 'available' and j.concurrency_key is null) free
cross join lateral (select count(*) as jobs, min(j.run_at) as oldest from quarterdeck.job j
  where j.queue = n.name and j.state = 'available' and j.concurrency_key is not null) keyed
cross join lateral (select count(*) as jobs from quarterdeck.job j where j.queue = n.name and j.state = 'running') running
cross join lateral (select count(*) filter (where j.state = 'scheduled') as scheduled,
    count(*) filter (where j.state = 'retryable') as retryable, count(*) filter (where j.state = 'pending') as pending
  from quarterdeck.job j where j.queue = n.name and j.state in ('pending', 'scheduled', 'retryable')) parked
