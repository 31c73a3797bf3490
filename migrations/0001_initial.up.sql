-- The whole first schema: later releases change behaviour, not the shape of the hot table.
--
-- job holds unfinished jobs only and stays small; a job that ends moves to job_history, which is partitioned by
-- range of id (UUIDv7: the day of submission). Invariants live here, as constraints.

create schema if not exists quarterdeck;

-- The smallest UUIDv7 of a moment: where a day's partition begins.
create function quarterdeck.uuid_floor(moment timestamptz) returns uuid
language sql immutable strict as $$
  select (lpad(to_hex((date_part('epoch', moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;

-- One line of a job's timeline: [seq, event, milliseconds since the epoch, fields]. Inlined by the planner.
create function quarterdeck.entry(seq bigint, event text, fields text) returns text
language sql stable as $$
  select '[' || seq || ',"' || event || '",' || (date_part('epoch', now()) * 1000)::bigint || coalesce(',' || fields, '') || E']\n'
$$;

create table quarterdeck.job (
  id                  uuid not null,
  queue               text collate "C" not null,
  tenant              text collate "C" not null default 'default',
  kind                text collate "C" not null,
  state               text collate "C" not null,
  state_reason        text collate "C",
  state_detail        text,
  args                jsonb not null,
  priority            smallint not null default 5,
  attempt             integer not null default 0,
  max_attempts        integer not null default 5,
  generation          integer not null default 1,
  crashes             integer not null default 0,
  -- grows with every claim and never repeats: each write of a running attempt carries it
  fence               bigint not null default 0,
  -- grows by one with every stored event
  seq                 bigint not null default 1,
  timeout             double precision,
  retry               jsonb,
  created_at          timestamptz not null default now(),
  run_at              timestamptz not null default now(),
  -- empty until the first start in this generation
  attempted_at        timestamptz,
  expires_at          timestamptz,
  ttl                 double precision,
  worker              text collate "C",
  cancel_requested_at timestamptz,
  tags                text[] collate "C" not null default '{}',
  metadata            jsonb not null default '{}',
  progress            json,
  errors              json[] not null default '{}',
  timeline            text not null default '',
  unique_key          text collate "C",
  concurrency_key     text collate "C",
  cache_key           text collate "C",
  cache_ttl           double precision,
  cached_from         uuid,
  workflow_id         uuid,
  batch_id            uuid,
  parent_id           uuid,
  needs               jsonb,
  open_needs          integer not null default 0,
  webhook             jsonb,
  traceparent         text collate "C",
  primary key (id, queue),
  constraint job_state check (state in ('pending', 'scheduled', 'available', 'running', 'retryable')),
  constraint job_worker check ((state = 'running') = (worker is not null)),
  constraint job_names check (queue <> '' and kind <> '' and tenant <> ''),
  constraint job_numbers check (priority between 0 and 9 and attempt >= 0 and max_attempts >= 1 and seq >= 1)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 1);

-- The claim: keyless waiting jobs, in the order they run.
create index job_claim on quarterdeck.job (queue, priority, run_at, id)
  where state = 'available' and concurrency_key is null;
-- The claim under limits: keyed waiting jobs, key by key (the ring of keys).
create index job_claim_keyed on quarterdeck.job (queue, priority, concurrency_key, run_at, id)
  where state = 'available' and concurrency_key is not null;
-- What is to run alone: lost with two workers.
create index job_suspect on quarterdeck.job (queue, priority, run_at, id) where state = 'available' and crashes >= 2;
-- What limits count.
create index job_running on quarterdeck.job (queue, concurrency_key) where state = 'running';
-- What a worker holds: rescue, reconcile, give back.
create index job_held on quarterdeck.job (worker, id) where state = 'running';
-- What the tick promotes.
create index job_due on quarterdeck.job (run_at, id) where state in ('scheduled', 'retryable');
-- What waits for a moment or for other jobs, counted by queue.
create index job_parked on quarterdeck.job (queue, state) where state in ('pending', 'scheduled', 'retryable');
-- What the tick expires: never started in this generation.
create index job_expiring on quarterdeck.job (expires_at, id)
  where expires_at is not null and attempted_at is null and state in ('available', 'scheduled');
-- What the tick tells a worker to stop.
create index job_cancelling on quarterdeck.job (worker, id) where state = 'running' and cancel_requested_at is not null;
create index job_workflow on quarterdeck.job (workflow_id, id) where workflow_id is not null;
create index job_batch on quarterdeck.job (batch_id, id) where batch_id is not null;

create table quarterdeck.job_history (
  like quarterdeck.job including defaults,
  finalized_at timestamptz not null,
  result       json,
  primary key (id, queue),
  constraint job_history_state check (state in ('completed', 'cancelled', 'discarded')),
  constraint job_history_names check (queue <> '' and kind <> '' and tenant <> '')
) partition by range (id);

-- Rows come in the order in which they end: which ended lately costs next to nothing to know.
create index job_history_finalized on quarterdeck.job_history using brin (finalized_at) with (pages_per_range = 32, autosummarize = on);
create index job_history_workflow on quarterdeck.job_history (workflow_id, id) where workflow_id is not null;
create index job_history_batch on quarterdeck.job_history (batch_id, id) where batch_id is not null;

-- Progress, log lines and outputs: append-only, inserted by the statement that raises job.seq.
create table quarterdeck.job_event (
  job_id     uuid not null,
  queue      text collate "C" not null,
  seq        bigint not null,
  generation integer not null,
  attempt    integer not null,
  event      text collate "C" not null,
  at         timestamptz not null default now(),
  data       json not null,
  primary key (job_id, queue, seq)
) partition by range (job_id);

-- A terminal row never changes: a retry by hand deletes it and makes a new generation.
create function quarterdeck.refuse_change() returns trigger
language plpgsql as $$
begin
  raise exception 'a terminal job never changes' using errcode = 'restrict_violation';
end$$;

create trigger job_history_is_final before update on quarterdeck.job_history
  for each row execute function quarterdeck.refuse_change();

-- Makes the daily partitions of job_history and job_event for every day (UTC) that [since, until] touches. Built
-- beside the parent and attached, which locks out nobody: creating them in place would wait for every reader.
create function quarterdeck.ensure_partitions(since timestamptz, until timestamptz) returns integer
language plpgsql as $$
declare
  day date;
  parent text;
  child text;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('quarterdeck.ensure_partitions', 0));
  for day in select generate_series((since at time zone 'UTC')::date, (until at time zone 'UTC')::date, interval '1 day') loop
    foreach parent in array array['job_history', 'job_event'] loop
      child := parent || to_char(day, '_YYYYMMDD');
      continue when to_regclass('quarterdeck.' || child) is not null;
      execute format('create table quarterdeck.%I (like quarterdeck.%I including defaults including constraints including indexes)', child, parent);
      execute format('alter table quarterdeck.%I attach partition quarterdeck.%I for values from (%L) to (%L)', parent, child,
        quarterdeck.uuid_floor(day::timestamp at time zone 'UTC'), quarterdeck.uuid_floor((day + 1)::timestamp at time zone 'UTC'));
      made := made + 1;
    end loop;
  end loop;
  return made;
end$$;

select quarterdeck.ensure_partitions(now() - interval '1 day', now() + interval '14 days');

-- Kinds that some process has registered.
create table quarterdeck.kind (
  name       text collate "C" primary key check (name <> ''),
  schema     jsonb not null,
  defaults   jsonb not null default '{}',
  first_seen timestamptz not null default now(),
  last_seen  timestamptz not null default now()
);

-- Settings of queues that were set; a queue without a row has the defaults.
create table quarterdeck.queue (
  name                text collate "C" primary key check (name <> ''),
  paused              boolean not null default false,
  concurrency         integer check (concurrency > 0),
  concurrency_per_key integer check (concurrency_per_key >= 0),
  rate                text,
  rate_every          interval,
  rate_burst          integer,
  rate_per_key        text,
  key_every           interval,
  key_burst           integer,
  retention           double precision check (retention > 0),
  max_depth           bigint check (max_depth > 0),
  updated_at          timestamptz not null default now(),
  constraint queue_rate check ((rate is null) = (rate_every is null) and (rate is null) = (rate_burst is null)),
  constraint queue_rate_per_key check ((rate_per_key is null) = (key_every is null) and (rate_per_key is null) = (key_burst is null))
);

-- First answers of requests with an Idempotency-Key: enough to render them again.
create table quarterdeck.idempotency (
  tenant     text collate "C" not null,
  method     text collate "C" not null,
  path       text collate "C" not null,
  key        text collate "C" not null,
  body_hash  bytea not null,
  job_id     uuid,
  answer     json not null,
  created_at timestamptz not null default now(),
  primary key (tenant, method, path, key)
);
create index idempotency_age on quarterdeck.idempotency (created_at);

-- Who holds a unique key: until the job has ended, and until held_until where a period was asked for.
create table quarterdeck.unique_key (
  tenant     text collate "C" not null,
  queue      text collate "C" not null,
  key        text collate "C" not null,
  job_id     uuid not null,
  held_until timestamptz,
  ended      boolean not null default false,
  primary key (tenant, queue, key)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

create table quarterdeck.schedule (
  tenant      text collate "C" not null default 'default',
  name        text collate "C" not null check (name <> ''),
  cron        text not null,
  timezone    text not null default 'UTC',
  job         jsonb not null,
  catch_up    text not null default 'none' check (catch_up in ('none', 'last', 'all')),
  overlap     text not null default 'allow' check (overlap in ('allow', 'skip')),
  paused      boolean not null default false,
  next_run_at timestamptz,
  last_run_at timestamptz,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  primary key (tenant, name)
);
create index schedule_due on quarterdeck.schedule (next_run_at) where not paused;

-- At most one firing a slot, by constraint.
create table quarterdeck.schedule_run (
  tenant    text collate "C" not null,
  schedule  text collate "C" not null,
  fire_time timestamptz not null,
  job_id    uuid,
  primary key (tenant, schedule, fire_time)
);

-- Rates (GCRA): the theoretical arrival time of the next start. An empty key is the queue's own bucket.
create table quarterdeck.bucket (
  queue           text collate "C" not null,
  concurrency_key text collate "C" not null,
  tat             timestamptz not null,
  primary key (queue, concurrency_key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

-- One row a live process. A row whose lease is over, or no row, means its jobs are orphans.
create table quarterdeck.worker (
  id          text collate "C" primary key check (id <> ''),
  host        text not null,
  pid         integer not null,
  role        text not null check (role in ('all', 'web', 'worker')),
  queues      text,
  kinds       text[] not null default '{}',
  slots       integer not null,
  running     integer not null default 0,
  draining    boolean not null default false,
  version     text not null,
  started_at  timestamptz not null default now(),
  beat_at     timestamptz not null default now(),
  lease_until timestamptz not null,
  feed_until  timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

-- The feed log: one row a group commit while some replica has a feed subscriber.
create table quarterdeck.feed (
  xid    xid8 not null default pg_current_xact_id(),
  at     timestamptz not null default now(),
  events json not null
) partition by range (at);
create index feed_order on quarterdeck.feed (xid);
