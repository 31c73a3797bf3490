-- Keeps the hash of a ticket for $8 seconds, and forgets up to a hundred that are over. Skips locked rows.
with over as (
  delete from quarterdeck.ticket t
  where t.ctid = any(array(
    select o.ctid from quarterdeck.ticket o where o.expires_at <= now() order by o.expires_at limit 100 for update skip locked))
)
insert into quarterdeck.ticket (digest, principal, tenant, scopes, job_id, tag, topic, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
returning expires_at
