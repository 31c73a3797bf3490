-- What the database says a worker runs: read only.
select j.id, j.fence from quarterdeck.job j where j.state = 'running' and j.worker = $1
