-- Counts the jobs of some queues that ended in the last $2 seconds: read only. Costs the pages written since then.
select h.queue, count(*) as jobs
from quarterdeck.job_history h
where h.finalized_at > now() - make_interval(secs => $2) and h.queue = any($1::text[])
group by h.queue
