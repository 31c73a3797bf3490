-- Changes a waiting job as its caller asks: args, priority, run_at, tags (as JSON), metadata, queue; null where it stays.
-- Locks the row, and that of its unique key if the queue changes. `refusal` says why nothing was changed; where neither
-- that nor a job comes back, it is already as asked for.
with target as materialized (
  select j.*, coalesce($9, j.queue) as next_queue, coalesce($3, j.args) as next_args,
    coalesce($4::smallint, j.priority) as next_priority, coalesce($5::timestamptz, j.run_at) as next_run_at,
    case when $6::json is null then j.tags else array(select json_array_elements_text($6::json)) end as next_tags,
    coalesce($7, j.metadata) as next_metadata,
    exists (select from quarterdeck.unique_key k
      where k.tenant = j.tenant and k.queue = j.queue and k.key = j.unique_key and k.job_id = j.id) as holds_key,
    case
      when j.state not in ('pending', 'scheduled', 'available', 'retryable') then 'running'
      when $8::text[] is not null and (j.generation || '-' || j.seq) <> all($8) then 'version'
      when $9::text <> j.queue and (j.attempted_at is not null or j.attempt > 0 or j.generation > 1) then 'started'
    end as refusal
  from quarterdeck.job j
  where j.id = $1 and j.tenant = $2
  for update
), moved_key as (
  insert into quarterdeck.unique_key as u (tenant, queue, key, job_id, held_until)
  select k.tenant, t.next_queue, k.key, k.job_id, k.held_until
  from target t
  join quarterdeck.unique_key k on k.tenant = t.tenant and k.queue = t.queue and k.key = t.unique_key and k.job_id = t.id
  where t.refusal is null and t.next_queue <> t.queue
  on conflict (tenant, queue, key) do update set job_id = excluded.job_id, held_until = excluded.held_until, ended = false
    where u.ended and u.held_until <= now()
  returning u.job_id
), left_key as (
  delete from quarterdeck.unique_key k using target t, moved_key m
  where k.tenant = t.tenant and k.queue = t.queue and k.key = t.unique_key and k.job_id = t.id
), judged as materialized (
  select t.*, case when t.refusal is null and t.next_queue <> t.queue and t.holds_key
      and not exists (select from moved_key) then 'unique' else t.refusal end as verdict,
    case
      when $5::timestamptz is null then t.state
      when t.state = 'available' and t.next_run_at > now() then 'scheduled'
      when t.state in ('scheduled', 'retryable') and t.next_run_at <= now() then 'available'
      else t.state
    end as next_state
  from target t
), written as (
  update quarterdeck.job j
  set queue = t.next_queue, args = t.next_args, priority = t.next_priority, run_at = t.next_run_at, tags = t.next_tags,
    metadata = t.next_metadata, state = t.next_state,
    -- It is null already. Constraints are first checked on what the snapshot knew of the row, where it may still run.
    worker = null,
    state_reason = case when t.next_state = t.state then t.state_reason end,
    state_detail = case when t.next_state = t.state then t.state_detail end,
    expires_at = case when $5::timestamptz is not null and t.ttl is not null and t.attempted_at is null and t.state <> 'pending'
      then t.next_run_at + make_interval(secs => t.ttl) else t.expires_at end,
    seq = t.seq + 1, timeline = t.timeline || quarterdeck.entry(t.seq + 1, 'updated', jsonb_strip_nulls(jsonb_build_object(
      'state', t.next_state,
      'queue', nullif(t.next_queue, t.queue),
      'priority', nullif(t.next_priority, t.priority),
      'run_at', to_char(nullif(t.next_run_at, t.run_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      -- The rest may be large, and a timeline is read and written whole.
      'changed', array_remove(array[case when t.next_args <> t.args then 'args' end,
        case when t.next_tags <> t.tags then 'tags' end, case when t.next_metadata <> t.metadata then 'metadata' end,
        case when t.next_queue <> t.queue then 'queue' end, case when t.next_priority <> t.priority then 'priority' end,
        case when t.next_run_at <> t.run_at then 'run_at' end], null)))::text)
  from judged t
  where j.id = t.id and t.verdict is null
    and (t.next_queue, t.next_args, t.next_priority, t.next_run_at, t.next_tags, t.next_metadata, t.next_state)
      is distinct from (t.queue, t.args, t.priority, t.run_at, t.tags, t.metadata, t.state)
  returning {job_columns}, j.seq as first_seq, j.batch_id
), {log_to_feed}
select t.verdict as refusal, {job_columns} from judged t left join written j on true
