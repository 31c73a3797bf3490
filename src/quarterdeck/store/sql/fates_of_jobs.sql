-- What became of jobs whose write changed nothing: read only.
select j.id, j.state, j.fence, j.cancel_requested_at is not null as cancel_requested from quarterdeck.job j where j.id = any($1::uuid[])
union all
select h.id, h.state, h.fence, h.cancel_requested_at is not null from quarterdeck.job_history h where h.id = any($1::uuid[])
