-- Ends this process's lease, and keeps when its kinds were last seen. Locks those rows, kinds in order of name.
with gone as (
  delete from quarterdeck.worker w where w.id = $1 returning w.kinds
)
update quarterdeck.kind k set last_seen = now()
where k.name = any(array(
  select l.name from quarterdeck.kind l join gone on l.name = any(gone.kinds) order by l.name for update of l))
