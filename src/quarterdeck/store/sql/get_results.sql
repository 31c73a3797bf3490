-- The results of jobs that have ended, each with the end that it belongs to. Read only. $2 and $3 are the least and the
-- greatest id: by them, and not by the array, partitions that cannot hold any are passed over.
select h.tenant, h.id as job_id, h.generation, h.seq, h.finalized_at, h.result
from quarterdeck.job_history h where h.id = any($1::uuid[]) and h.id between $2::uuid and $3::uuid
