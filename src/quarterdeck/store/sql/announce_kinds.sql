-- Makes the kinds of this process known to all. Locks those rows, in name order.
insert into quarterdeck.kind as k (name, schema, defaults)
select i.name, i.schema, i.defaults
from unnest($1::text[], $2::jsonb[], $3::jsonb[]) as i (name, schema, defaults)
order by i.name
on conflict (name) do update set schema = excluded.schema, defaults = excluded.defaults, last_seen = now()
