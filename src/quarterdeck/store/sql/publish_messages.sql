-- Publishes a group of messages, in their order within each topic. Locks the rows of their topics, in the order of their
-- names, until it commits: so ids grow by one in the order of commits, and times with them.
with input as materialized (
  select i.tenant, i.topic, i.data, i.place, row_number() over (partition by i.tenant, i.topic order by i.place) as number
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as i (tenant, topic, data, place)
), taken as (
  insert into quarterdeck.topic as t (tenant, name, last)
  select i.tenant, i.topic, count(*) from input i
  group by i.tenant, i.topic
  order by i.tenant collate "C", i.topic collate "C"
  on conflict (tenant, name) do update set last = t.last + excluded.last
  returning t.tenant, t.name, t.last
), given as materialized (
  select i.tenant, i.topic, i.data, i.place, t.last - max(i.number) over (partition by i.tenant, i.topic) + i.number as id
  from input i join taken t on t.tenant = i.tenant and t.name = i.topic
), stored as (
  insert into quarterdeck.topic_message (tenant, topic, id, at, data)
  select g.tenant, g.topic, g.id, clock_timestamp(), g.data::json from given g
)
select g.id from given g order by g.place
