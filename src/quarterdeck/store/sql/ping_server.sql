-- Whether the server answers at all: touches nothing.
select 1
