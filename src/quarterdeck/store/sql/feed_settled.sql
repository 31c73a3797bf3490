-- Whether everything that commits from now on knows what transaction $1 has committed: no transaction that is as old is in
-- progress here, and no statement that began before $2 (null: before now) still runs that may write. `statements` is about
-- the latter alone. Other databases do not matter. Read only.
with seen as materialized (
  select coalesce($2::timestamptz, clock_timestamp()) as at, pg_snapshot_xmax(pg_current_snapshot())::text as top,
    {transactions_in_progress} as open
), busy as materialized (
  select from pg_stat_activity a, seen s
  where a.datname = current_database() and a.pid <> pg_backend_pid() and coalesce(a.query_start <= s.at, true)
    and coalesce(a.state not like 'idle%', true) and a.backend_xmin is not null and age(a.backend_xmin) >= age($1::text::xid8::xid)
    and (a.application_name like 'quarterdeck-%' or a.backend_xid is not null)
)
select s.at, s.top, s.open, not exists (select from busy) as statements,
  not exists (select from busy) and not exists (select from unnest(s.open) o where o::xid8 <= $1::text::xid8) as settled
from seen s
