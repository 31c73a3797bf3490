-- The next job that is to run alone, because it was lost with two workers; only where it is this worker's turn. Of the
-- live workers that could run it, the ids of worker and job choose one: they agree without asking each other. Read only.
select j.id
from quarterdeck.job j
where j.state = 'available' and j.crashes >= 2 and j.concurrency_key is null and j.run_at <= now()
  and (j.expires_at is null or j.expires_at > now() or j.attempted_at is not null)
  and not exists (select from quarterdeck.queue q
    where q.name = j.queue and (q.paused or q.concurrency is not null or q.rate_every is not null))
  and $1 = (select w.id from quarterdeck.worker w
    where w.lease_until > now() and not w.draining and array_position(w.kinds, j.kind) is not null
      and (w.queues is null or exists (
        select from unnest(string_to_array(w.queues, ',')) r (rule)
        cross join lateral (select trim(split_part(r.rule, '=', 1)) as name) n
        where n.name = j.queue or (right(n.name, 1) = '*' and starts_with(j.queue, left(n.name, -1)))))
    order by hashtextextended(w.id, hashtextextended(j.id::text, 0)), w.id
    limit 1)
order by j.queue, j.priority, j.run_at, j.id
limit 1
