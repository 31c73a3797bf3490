-- Renews a lease that is not over ($2 seconds from now). Changes nothing where it is: then the lease is lost.
update quarterdeck.worker w
set beat_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => $2), running = $3, draining = $4
where w.id = $1 and w.lease_until > clock_timestamp()
returning clock_timestamp() as now
