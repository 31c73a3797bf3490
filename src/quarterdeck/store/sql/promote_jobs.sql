-- Makes due jobs available: scheduled ones and those that wait for their next attempt. Skips locked rows.
with due as materialized (
  select d.id from quarterdeck.job d
  where d.state in ('scheduled', 'retryable') and d.run_at <= now()
  order by d.run_at, d.id
  limit $1
  for update skip locked
), written as (
  update quarterdeck.job j
  set state = 'available', state_reason = null, state_detail = null, seq = j.seq + 1,
    timeline = j.timeline || quarterdeck.entry(j.seq + 1, 'available', null)
  where j.id = any(array(select id from due)) and j.state in ('scheduled', 'retryable')
  returning j.id, j.queue, j.state, j.seq, {fed_job}
), {log_to_feed}
select w.id, w.queue, w.state, w.seq from written w
