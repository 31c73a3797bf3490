-- Reads the secret of that name. Read only.
select s.value from quarterdeck.secret s where s.name = $1
