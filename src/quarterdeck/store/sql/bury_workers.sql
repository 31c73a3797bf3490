-- Removes workers whose lease is over, so that a late beat of theirs finds nothing to renew. Skips rows that a beat holds.
delete from quarterdeck.worker w
where w.id = any(array(
  select d.id from quarterdeck.worker d where d.lease_until < clock_timestamp() order by d.id for update skip locked))
  and w.lease_until < clock_timestamp()
returning w.id, w.host, w.pid
