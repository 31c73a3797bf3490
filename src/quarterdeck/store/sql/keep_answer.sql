-- Keeps the first answer of a request under its idempotency key. Locks that row.
update quarterdeck.idempotency y
set job_id = $5, answer = $6
where y.tenant = $1 and y.method = $2 and y.path = $3 and y.key = $4
