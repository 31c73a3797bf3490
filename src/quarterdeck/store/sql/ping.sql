-- Whether the database answers, with our schema: read only.
select from quarterdeck.kind limit 1
