-- Ends this process's lease.
delete from quarterdeck.worker w where w.id = $1
