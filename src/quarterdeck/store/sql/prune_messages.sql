-- Forgets messages that are older than $5 seconds, up to $3 of them, and of each of some topics ($1, $2) those before its
-- latest $4, up to $3. Skips locked rows; locks no topic.
with old as materialized (
  select m.ctid as place from quarterdeck.topic_message m
  where m.at <= now() - make_interval(secs => $5)
  order by m.at
  limit $3
  for update skip locked
), surplus as materialized (
  select m.place
  from unnest($1::text[], $2::text[]) as f (tenant, name)
  cross join lateral (
    select t.last from quarterdeck.topic t where t.tenant = f.tenant and t.name = f.name limit 1
  ) t
  cross join lateral (
    select s.ctid as place from quarterdeck.topic_message s
    where s.tenant = f.tenant and s.topic = f.name and s.id <= t.last - $4::integer
    order by s.id
    limit $3
    for update skip locked
  ) m
)
delete from quarterdeck.topic_message m
where m.ctid = any(array(select place from old union all select place from surplus))
returning 1
