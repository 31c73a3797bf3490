-- Lists events of one sort ($3) of a job, newest first, below a seq ($4): read only. It looks at no more than $6 rows, and
-- $7 bytes of those that fit, and marks the row where that ended (stop).
select e.seq, e.at, e.attempt, e.generation, e.data, e.fits as shown,
  e.read < $7 and (e.place = $6 or e.read + e.weight >= $7) as stop
from (
  select e.*, row_number() over page as place, (sum(e.weight) over page - e.weight)::bigint as read
  from (
    select e.*, e.event = $3 as fits, case when e.event = $3 then pg_column_size(e.data) else 0 end as weight
    from quarterdeck.job_event e
    where e.job_id = $1 and e.queue = $2 and e.seq < $4
    order by e.seq desc
    limit $6
  ) e
  window page as (order by e.seq desc rows unbounded preceding)
) e
where e.read < $7 and (e.fits or e.place = $6 or e.read + e.weight >= $7)
order by e.seq desc
limit $5
