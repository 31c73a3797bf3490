-- Which of these jobs have ended: read only.
select h.id from quarterdeck.job_history h where h.id = any($1::uuid[])
