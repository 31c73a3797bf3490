-- Lists processes whose lease is not over, the newest first, from after ($1, $2), at most $3: read only.
select w.id, w.host, w.pid, w.role, w.queues, w.kinds, w.slots, w.running, w.draining, w.version, w.started_at, w.beat_at,
  w.lease_until
from quarterdeck.worker w
where w.lease_until > now() and (w.started_at, w.id) < ($1::timestamptz, $2::text)
order by w.started_at desc, w.id desc
limit $3
