-- Describes known kinds, in order from after $1, at most $2, with how many live workers each has: read only.
select k.name, k.schema, k.defaults, k.first_seen, greatest(k.last_seen, w.beat_at) as last_seen, w.live
from (select * from quarterdeck.kind where name > $1 order by name limit $2) k
cross join lateral (select count(*) as live, max(w.beat_at) as beat_at from quarterdeck.worker w
  where k.name = any(w.kinds) and w.lease_until > now()) w
order by k.name
