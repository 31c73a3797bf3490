-- Takes away everything of 0001, jobs and history included.
drop table quarterdeck.feed, quarterdeck.worker, quarterdeck.bucket, quarterdeck.schedule_run, quarterdeck.schedule,
  quarterdeck.unique_key, quarterdeck.idempotency, quarterdeck.queue, quarterdeck.kind,
  quarterdeck.job_event, quarterdeck.job_history, quarterdeck.job;
drop function quarterdeck.ensure_partitions(timestamptz, timestamptz);
drop function quarterdeck.refuse_change();
drop function quarterdeck.entry(bigint, text, text);
drop function quarterdeck.uuid_floor(timestamptz);
