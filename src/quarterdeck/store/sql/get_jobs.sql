-- Several jobs, waiting or ended, in one snapshot: read only. $2 and $3 are the least and the greatest id: by them, and not by
-- the array, partitions that cannot hold any are passed over.
select {job_columns}, null::timestamptz as finalized_at, null::json as result from quarterdeck.job j where j.id = any($1::uuid[])
union all
select {job_columns}, j.finalized_at, j.result from quarterdeck.job_history j where j.id = any($1::uuid[]) and j.id between $2::uuid and $3::uuid
