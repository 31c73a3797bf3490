-- Which jobs hold these unique keys: read only.
select u.tenant, u.queue, u.key, u.job_id
from quarterdeck.unique_key u
join unnest($1::text[], $2::text[], $3::text[]) as i (tenant, queue, key)
  on u.tenant = i.tenant and u.queue = i.queue and u.key = i.key
