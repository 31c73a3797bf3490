-- Names queues that have settings or unfinished jobs, in order from after $1, at most $2: read only. Each name costs one
-- probe of each index that leads by queue.
with recursive name (name) as (
  select $1::text collate "C"
  union all
  select least(
    (select q.name from quarterdeck.queue q where q.name > name.name order by q.name limit 1),
    (select j.queue from quarterdeck.job j
      where j.state = 'available' and j.concurrency_key is null and j.queue > name.name order by j.queue limit 1),
    (select j.queue from quarterdeck.job j
      where j.state = 'available' and j.concurrency_key is not null and j.queue > name.name order by j.queue limit 1),
    (select j.queue from quarterdeck.job j where j.state = 'running' and j.queue > name.name order by j.queue limit 1),
    (select j.queue from quarterdeck.job j
      where j.state in ('pending', 'scheduled', 'retryable') and j.queue > name.name order by j.queue limit 1))
  from name where name.name is not null
)
select name.name from name where name.name > $1 limit $2
