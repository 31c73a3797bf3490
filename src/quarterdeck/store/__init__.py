"""Everything that talks to PostgreSQL: one statement a file, and the only users of the driver."""
