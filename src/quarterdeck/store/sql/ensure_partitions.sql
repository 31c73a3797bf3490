-- Makes the daily partitions from yesterday to 14 days ahead, and those of unfinished jobs of other days, where they are
-- missing. Locks out only other makers.
select quarterdeck.ensure_partitions(now() - interval '1 day', now() + interval '14 days') + coalesce((
  select sum(quarterdeck.ensure_partitions(o.day, o.day))::integer
  from (
    select distinct date_trunc('day', to_timestamp(('x' || left(replace(j.id::text, '-', ''), 12))::bit(48)::bigint / 1000.0), 'UTC') as day
    from quarterdeck.job j
    where j.id < quarterdeck.uuid_floor(date_trunc('day', now() - interval '1 day', 'UTC'))
      or j.id >= quarterdeck.uuid_floor(date_trunc('day', now() + interval '15 days', 'UTC'))) o), 0)
