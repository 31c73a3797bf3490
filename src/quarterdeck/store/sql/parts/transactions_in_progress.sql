array(select x::text from pg_snapshot_xip(pg_current_snapshot()) x
      where not exists (select from pg_stat_activity o where o.datname <> current_database() and o.backend_xid = x::xid))
