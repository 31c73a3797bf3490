-- What live updates need: a feed log in slots, topics with a short history, and tickets for browsers.
--
-- Locks: the feed log of 0001, which nothing has written to yet, is replaced; everything else is new. The old code runs
-- on the new schema.

-- The feed log, one row a group commit while some replica has a feed subscriber. Its partitions are hours, modulo four:
-- they are there for good, so that an insert always finds its own, and an hour is forgotten by truncating it, which
-- locks nobody who writes.
drop table quarterdeck.feed;

create function quarterdeck.feed_slot(moment timestamptz) returns smallint
language sql immutable strict as $$
  select (floor(date_part('epoch', moment) / 3600)::bigint % 4)::smallint
$$;

create table quarterdeck.feed (
  slot   smallint not null default quarterdeck.feed_slot(now()),
  xid    xid8 not null default pg_current_xact_id(),
  at     timestamptz not null default now(),
  -- [[job id, first seq, last seq, queue, kind, tenant, tags, workflow id, batch id], …]
  events json not null
) partition by list (slot);
create table quarterdeck.feed_0 partition of quarterdeck.feed for values in (0);
create table quarterdeck.feed_1 partition of quarterdeck.feed for values in (1);
create table quarterdeck.feed_2 partition of quarterdeck.feed for values in (2);
create table quarterdeck.feed_3 partition of quarterdeck.feed for values in (3);
create index feed_order on quarterdeck.feed (xid);

-- Forgets what is two hours old and older; says whether there was anything.
create function quarterdeck.prune_feed() returns boolean
language plpgsql as $$
declare
  slot integer := quarterdeck.feed_slot(now() + interval '2 hours');
  found boolean;
begin
  execute format('select exists (select from quarterdeck.%I)', 'feed_' || slot) into found;
  if found then
    set local lock_timeout = '2s';
    execute format('truncate quarterdeck.%I', 'feed_' || slot);
  end if;
  return found;
end$$;

-- Who wants the feed log, found without reading all workers.
create index worker_feed on quarterdeck.worker (feed_until) where feed_until is not null;

-- Topics: the number of the last message, which grows by one with each, under the row's lock.
create table quarterdeck.topic (
  tenant text collate "C" not null,
  name   text collate "C" not null check (name <> ''),
  last   bigint not null default 0,
  primary key (tenant, name)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

-- The latest messages of topics.
create table quarterdeck.topic_message (
  tenant text collate "C" not null,
  topic  text collate "C" not null,
  id     bigint not null,
  at     timestamptz not null default now(),
  data   json not null,
  primary key (tenant, topic, id)
);
create index topic_message_age on quarterdeck.topic_message (at);

-- Single-use tickets of those who cannot send a header. Only a hash of each is kept.
create table quarterdeck.ticket (
  digest     bytea primary key,
  principal  text not null,
  tenant     text collate "C" not null,
  scopes     text[] not null,
  job_id     uuid,
  tag        text,
  topic      text,
  expires_at timestamptz not null
);
create index ticket_age on quarterdeck.ticket (expires_at);
