-- Records what the handlers of running jobs tell, under their fences: progress, log lines, outputs. Locks the rows by
-- primary key. Changes nothing where the job has another seq than its worker knows: an earlier try got through, or
-- somebody asked for its cancel.
with written as (
  update quarterdeck.job j
  set seq = j.seq + o.events, progress = coalesce(o.progress::json, j.progress)
  from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[]) as o (id, fence, seq, events, progress)
  where j.id = any($1::uuid[]) and j.id = o.id and j.fence = o.fence and j.seq = o.seq and j.worker is not null
  returning j.id, j.queue, j.generation, j.attempt, o.seq as before, j.seq, o.seq + 1 as first_seq, j.kind, j.tenant, j.tags,
    j.workflow_id, j.batch_id
), recorded as (
  insert into quarterdeck.job_event (job_id, queue, seq, generation, attempt, event, data)
  select t.id, t.queue, t.before + e.place, t.generation, t.attempt, e.event, e.data::json
  from written t
  join unnest($6::uuid[], $7::integer[], $8::text[], $9::text[]) as e (id, place, event, data) on e.id = t.id
), {log_to_feed}
select t.id, t.seq, t.before + 1 as first from written t
