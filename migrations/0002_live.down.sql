-- Takes away topics, tickets and the feed log of 0002; makes that of 0001 again.
drop table quarterdeck.ticket, quarterdeck.topic_message, quarterdeck.topic, quarterdeck.feed;
drop index quarterdeck.worker_feed;
drop function quarterdeck.prune_feed();
drop function quarterdeck.feed_slot(timestamptz);

create table quarterdeck.feed (
  xid    xid8 not null default pg_current_xact_id(),
  at     timestamptz not null default now(),
  events json not null
) partition by range (at);
create index feed_order on quarterdeck.feed (xid);
