-- Claims one job that was lost with two workers, for the worker that holds nothing else. Locks that row.
with written as (
  update quarterdeck.job j
  set state = 'running', state_reason = null, state_detail = null, attempt = j.attempt + 1, fence = j.fence + 1, worker = $2,
    attempted_at = now(), progress = null, seq = j.seq + 1,
    timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'started', '{"attempt":' || j.attempt + 1 || '}')
  where j.id = $1 and j.state = 'available' and j.crashes >= 2
  returning {job_columns}, j.seq as first_seq, j.batch_id
), {log_to_feed}
select {job_columns} from written j
