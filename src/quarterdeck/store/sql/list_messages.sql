-- The kept messages of a topic before some id ($3), newest first, at most $4 of them and of about $5 bytes: read only. $6 and
-- $7 say how many, and of how many seconds, are kept.
select n.id, n.at, n.data
from (
  select k.*, sum(octet_length(k.data)) over (order by k.id desc) - octet_length(k.data) as bytes_before
  from (
    select m.id, m.at, m.data::text as data
    from quarterdeck.topic_message m
    where m.tenant = $1 and m.topic = $2 and m.id < $3
      and m.id > (select t.last from quarterdeck.topic t where t.tenant = $1 and t.name = $2) - $6::integer
      and m.at > now() - make_interval(secs => $7)
    order by m.id desc
    limit $4) k) n
where n.bytes_before < $5::integer
order by n.id desc
