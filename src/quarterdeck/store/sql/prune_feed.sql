-- Forgets what was logged two hours ago and before that. Locks that part of the log, which nobody writes any more.
select quarterdeck.prune_feed() as pruned
