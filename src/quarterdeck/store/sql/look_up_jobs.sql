-- Several jobs, waiting or ended, in one snapshot, but for results that take more than $2 bytes where they are stored. Read only.
-- $3 and $4 are the least and the greatest id: by them, and not by the array, partitions that cannot hold any are passed over.
select {job_columns}, null::timestamptz as finalized_at, null::json as result, false as left_out
from quarterdeck.job j where j.id = any($1::uuid[])
union all
select {job_columns}, j.finalized_at, case when pg_column_size(j.result) <= $2::integer then j.result end,
  coalesce(pg_column_size(j.result) > $2::integer, false)
from quarterdeck.job_history j where j.id = any($1::uuid[]) and j.id between $3::uuid and $4::uuid
