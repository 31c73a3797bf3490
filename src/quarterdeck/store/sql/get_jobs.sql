-- Several jobs, waiting or ended, in one snapshot: read only.
select {job_columns}, null::timestamptz as finalized_at, null::json as result from quarterdeck.job j where j.id = any($1::uuid[])
union all
select {job_columns}, j.finalized_at, j.result from quarterdeck.job_history j where j.id = any($1::uuid[])
