-- Changes settings of one queue, and names it where nobody has: $2 and $4 say what is changed. Locks that row.
insert into quarterdeck.queue as q (name, paused, max_depth)
values ($1, case when $2 then $3 else false end, case when $4 then $5::bigint end)
on conflict (name) do update set
  paused = case when $2 then excluded.paused else q.paused end,
  max_depth = case when $4 then excluded.max_depth else q.max_depth end,
  updated_at = now()
returning q.name, q.paused, q.concurrency, q.concurrency_per_key, q.rate, q.rate_per_key, q.retention, q.max_depth
