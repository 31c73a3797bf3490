-- Notifies whoever listens to the channel $1 of each of the messages $2. Takes the cluster's one lock for that when it commits.
select count(pg_notify($1, m.text)) from unnest($2::text[]) m (text)
