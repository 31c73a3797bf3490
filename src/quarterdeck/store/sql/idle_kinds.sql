-- Names the kinds that no live worker has a handler for, and since when, in seconds: read only.
select k.name, date_part('epoch', now() - k.last_seen) as seconds
from quarterdeck.kind k
where not exists (select from quarterdeck.worker w where k.name = any(w.kinds) and w.lease_until > now())
