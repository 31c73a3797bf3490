"""What tests share: a real PostgreSQL, real processes, and waiting on facts."""
