-- What happened to jobs ($1), and of what their handlers wrote after some seq each ($2) the next $3 events: read only. Values
-- of more than $4 bytes are replaced by their size. $5 and $6 are the least and the greatest id: by them, and not by the array,
-- partitions that cannot hold any are passed over.
select r.*,
  array(
    select json_build_array(e.seq, e.event, e.generation, (date_part('epoch', e.at) * 1000)::bigint,
      case when octet_length(e.data::text) > $4 then json_build_object('$truncated', octet_length(e.data::text)) else e.data end)::text
    from quarterdeck.job_event e
    where e.job_id = r.id and e.queue = r.queue and e.seq > ($2::bigint[])[array_position($1::uuid[], r.id)]
    order by e.seq
    limit $3) as written
from (
  select j.id, j.tenant, j.queue, j.kind, j.tags, j.state, j.state_reason, j.state_detail, j.generation, j.seq, j.timeline,
    j.errors, null::text as result
  from quarterdeck.job j
  where j.id = any($1::uuid[])
  union all
  select h.id, h.tenant, h.queue, h.kind, h.tags, h.state, h.state_reason, h.state_detail, h.generation, h.seq, h.timeline,
    h.errors, case when octet_length(h.result::text) > $4 then '{"$truncated":' || octet_length(h.result::text) || '}' else h.result::text end
  from quarterdeck.job_history h
  where h.id = any($1::uuid[]) and h.id between $5::uuid and $6::uuid
) r
