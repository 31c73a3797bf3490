-- Secrets that all processes of an installation share. The first: what they keep in memcached is signed with it.
--
-- Locks: nothing, the table is new. The old code runs on the new schema.

create table quarterdeck.secret (
  name       text collate "C" primary key check (name <> ''),
  value      bytea not null check (length(value) >= 32),
  created_at timestamptz not null default now()
);

-- Two random UUIDs hold 244 random bits; no extension is needed for them.
insert into quarterdeck.secret (name, value)
values ('cache', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
