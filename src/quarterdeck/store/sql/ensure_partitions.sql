-- Makes the daily partitions from yesterday to 14 days ahead, where they are missing. Locks out only other makers.
select quarterdeck.ensure_partitions(now() - interval '1 day', now() + interval '14 days')
