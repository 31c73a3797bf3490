fed as (
  insert into quarterdeck.feed (events)
  select json_agg(json_build_array(w.id, w.first_seq, w.seq, w.queue, w.kind, w.tenant, w.tags, w.workflow_id, w.batch_id))
  from written w
  where exists (select from quarterdeck.worker f where f.feed_until > now())
  having count(*) > 0
)
