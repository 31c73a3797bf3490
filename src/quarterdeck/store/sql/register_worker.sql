-- Announces this process and begins its lease ($9 seconds).
insert into quarterdeck.worker (id, host, pid, role, queues, kinds, slots, version, lease_until)
values ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9))
returning clock_timestamp() as now
