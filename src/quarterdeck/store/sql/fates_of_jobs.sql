-- What became of jobs whose write changed nothing: read only. $2 and $3 are the least and the greatest id: by them, and not by
-- the array, partitions that cannot hold any are passed over.
select j.id, j.state, j.fence, j.cancel_requested_at is not null as cancel_requested from quarterdeck.job j where j.id = any($1::uuid[])
union all
select h.id, h.state, h.fence, h.cancel_requested_at is not null from quarterdeck.job_history h where h.id = any($1::uuid[]) and h.id between $2::uuid and $3::uuid
