-- Removes workers whose lease is over, so that a late beat of theirs finds nothing to renew, and keeps when their kinds
-- were last seen. Skips rows that a beat holds; locks kinds in order of name.
with buried as (
  delete from quarterdeck.worker w
  where w.id = any(array(
    select d.id from quarterdeck.worker d where d.lease_until < clock_timestamp() order by d.id for update skip locked))
    and w.lease_until < clock_timestamp()
  returning w.id, w.host, w.pid, w.kinds, w.lease_until
), seen as (
  update quarterdeck.kind k
  set last_seen = greatest(k.last_seen, (select max(b.lease_until) from buried b where k.name = any(b.kinds)))
  where k.name = any(array(select l.name from quarterdeck.kind l
    where exists (select from buried b where l.name = any(b.kinds)) order by l.name for update))
)
select b.id, b.host, b.pid from buried b
