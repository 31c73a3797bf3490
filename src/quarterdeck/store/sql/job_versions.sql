-- The versions of jobs: of those among $1 that have ended, and of those among $2 that have not. Read only. $3 and $4 are
-- the least and the greatest id of $1: by them, and not by the array, partitions that cannot hold any are passed over.
select h.id, h.generation, h.seq, true as ended from quarterdeck.job_history h where h.id = any($1::uuid[]) and h.id between $3::uuid and $4::uuid
union all
select j.id, j.generation, j.seq, false from quarterdeck.job j where j.id = any($2::uuid[])
