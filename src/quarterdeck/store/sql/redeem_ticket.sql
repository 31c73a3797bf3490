-- Takes a ticket away, and says what it allows unless it is over. Locks its row: of several at once one gets it.
with taken as (
  delete from quarterdeck.ticket t where t.digest = $1
  returning t.principal, t.tenant, t.scopes, t.job_id, t.tag, t.topic, t.expires_at
)
select t.principal, t.tenant, t.scopes, t.job_id, t.tag, t.topic from taken t where t.expires_at > now()
