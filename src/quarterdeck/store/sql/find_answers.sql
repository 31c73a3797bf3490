-- The first answers of requests with these idempotency keys, as far as they are kept: read only. One look by the primary
-- key for each, whatever the planner thinks of the table.
select y.tenant, y.method, y.path, y.key, y.body_hash, y.job_id, y.answer
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as i (tenant, method, path, key)
cross join lateral (
  select k.* from quarterdeck.idempotency k
  where k.tenant = i.tenant and k.method = i.method and k.path = i.path and k.key = i.key
    and k.created_at >= now() - interval '24 hours'
  limit 1
) y
