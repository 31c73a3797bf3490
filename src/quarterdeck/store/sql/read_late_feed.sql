-- What these transactions ($1) logged: read only.
select f.xid::text as xid, f.events::text as events
from quarterdeck.feed f
where f.xid = any($1::text[]::xid8[]) and json_typeof(f.events) = 'array'
order by f.xid
