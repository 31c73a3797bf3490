-- Settings of those of these queues that were ever set: read only.
select q.name, q.paused, q.concurrency, q.concurrency_per_key, q.rate, q.rate_per_key, q.retention, q.max_depth
from quarterdeck.queue q where q.name = any($1::text[])
