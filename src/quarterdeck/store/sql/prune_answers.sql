-- Forgets first answers that are no longer kept, up to $1 of them. Skips locked rows.
delete from quarterdeck.idempotency y
where (y.tenant, y.method, y.path, y.key) in (
  select o.tenant, o.method, o.path, o.key from quarterdeck.idempotency o
  where o.created_at < now() - interval '24 hours'
  order by o.created_at
  limit $1
  for update skip locked)
returning 1
