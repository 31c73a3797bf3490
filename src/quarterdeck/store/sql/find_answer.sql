-- The first answer of a request with this idempotency key, while it is kept: read only.
select y.body_hash, y.job_id, y.answer
from quarterdeck.idempotency y
where y.tenant = $1 and y.method = $2 and y.path = $3 and y.key = $4 and y.created_at >= now() - interval '24 hours'
