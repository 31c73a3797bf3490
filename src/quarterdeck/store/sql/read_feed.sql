-- The feed log from transaction $1 on, before transaction $2: $3 rows, and what else belongs to the transaction of the last;
-- and which transactions are in progress here. `kept` says whether something is kept that is not younger than $1: then nothing
-- after it was pruned. Read only.
with seen as materialized (
  select pg_snapshot_xmax(pg_current_snapshot())::text as top,
    {transactions_in_progress} as open,
    coalesce((select k.at from quarterdeck.feed k where k.xid <= $1::text::xid8 order by k.xid desc limit 1)
      >= date_trunc('hour', now()) - interval '2 hours', false) as kept
)
select s.top, s.open, s.kept, f.xid::text as xid, f.events::text as events
from seen s
left join (
  select f.xid, f.events
  from quarterdeck.feed f
  where f.xid >= $1::text::xid8 and f.xid < $2::text::xid8 and json_typeof(f.events) = 'array'
  order by f.xid
  fetch first $3 rows with ties
) f on true
order by f.xid
