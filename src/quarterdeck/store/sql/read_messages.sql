-- The last ids of topics ($1, $2), and the kept messages of each after some id ($3), oldest first, at most $4 of them and of
-- about $5 bytes: read only. $6 and $7 say how many, and of how many seconds, are kept. One look by primary keys for each.
select f.tenant, f.name, coalesce(t.last, 0) as last, m.id, m.at, m.data
from unnest($1::text[], $2::text[], $3::bigint[]) as f (tenant, name, after)
left join lateral (
  select t.last from quarterdeck.topic t where t.tenant = f.tenant and t.name = f.name limit 1
) t on true
left join lateral (
  select n.id, n.at, n.data
  from (
    select k.*, sum(octet_length(k.data)) over (order by k.id) - octet_length(k.data) as bytes_before
    from (
      select k.id, k.at, k.data::text as data
      from quarterdeck.topic_message k
      where k.tenant = f.tenant and k.topic = f.name and t.last > f.after
        and k.id > greatest(f.after, t.last - $6::integer) and k.at > now() - make_interval(secs => $7)
      order by k.id
      limit $4) k) n
  where n.bytes_before < $5::integer
) m on true
order by f.tenant, f.name, m.id
