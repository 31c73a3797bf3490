freed_keys as (
  delete from quarterdeck.unique_key u using ended e
  where e.unique_key is not null and u.tenant = e.tenant and u.queue = e.queue and u.key = e.unique_key
    and u.job_id = e.id and (u.held_until is null or u.held_until <= now())
), kept_keys as (
  update quarterdeck.unique_key u set ended = true from ended e
  where e.unique_key is not null and u.tenant = e.tenant and u.queue = e.queue and u.key = e.unique_key
    and u.job_id = e.id and u.held_until > now()
)
