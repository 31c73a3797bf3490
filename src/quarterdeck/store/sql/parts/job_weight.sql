pg_column_size(j.args) + pg_column_size(j.metadata) + pg_column_size(j.errors) + coalesce(pg_column_size(j.progress), 0)
