-- Wants the feed log for $2 seconds more, for a worker. Locks its row, and shares that of one other who wants it, so that it
-- is not deleted before this is known. Logs a hole where nobody had wanted it up to now, and now and then that it is
-- still wanted: cursors are good as long as something is kept that is not younger than they are.
with others as materialized (
  select w.id from quarterdeck.worker w
  where w.feed_until > now() + interval '15 seconds' and w.id <> $1
  limit 1
  for key share skip locked
), wanted as (
  update quarterdeck.worker w
  set feed_until = now() + make_interval(secs => $2)
  from (select v.id, v.feed_until from quarterdeck.worker v where v.id = $1) v
  where w.id = $1 and w.id = v.id
  returning not exists (select from others) and coalesce(v.feed_until, now()) <= now() + interval '15 seconds' as begun
), logged as (
  insert into quarterdeck.feed (events)
  select case when w.begun then '[]' else 'null' end::json
  from wanted w
  where w.begun
    or coalesce((select f.at from quarterdeck.feed f order by f.xid desc limit 1), '-infinity') < now() - interval '10 minutes'
)
select w.begun, pg_current_xact_id()::text as xid from wanted w
