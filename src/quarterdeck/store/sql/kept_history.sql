-- From when there can be jobs of this installation, and the first day whose history is kept; null where none is. Read only.
select (select min(m.applied_at) from quarterdeck.migration m) as installed,
  (select min(to_date(right(c.relname, 8), 'YYYYMMDD'))::timestamp at time zone 'UTC'
     from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'quarterdeck.job_history'::regclass) as oldest
