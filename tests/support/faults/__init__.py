"""A bad link to the database: a proxy of PostgreSQL's protocol that loses, delays and cuts, and the same in-process."""
