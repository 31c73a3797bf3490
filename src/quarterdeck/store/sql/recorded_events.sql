-- What became of events whose write changed nothing, for jobs that still run: fence and seq, and whether there are events of
-- handlers after some seq each: read only.
select j.id, j.fence, j.seq, exists (
    select from quarterdeck.job_event e
    where e.job_id = j.id and e.queue = j.queue and e.seq > ($2::bigint[])[array_position($1::uuid[], j.id)]) as stored
from quarterdeck.job j
where j.id = any($1::uuid[]) and j.worker is not null
