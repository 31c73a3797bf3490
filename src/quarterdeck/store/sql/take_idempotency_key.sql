-- Takes an idempotency key for a job, where it is free; waits for whoever takes the same one. Locks that row.
insert into quarterdeck.idempotency as y (tenant, method, path, key, body_hash, job_id, answer)
values ($1, $2, $3, $4, $5, $6, 'null')
on conflict (tenant, method, path, key) do update
  set body_hash = excluded.body_hash, job_id = excluded.job_id, answer = excluded.answer, created_at = now()
  where y.created_at < now() - interval '24 hours'
returning y.job_id
