-- Takes away a running job, under its fence, that has ended before: an insert that was repeated after its reply was lost has
-- brought it back. Locks its row, and that of its unique key.
with ended as (
  delete from quarterdeck.job j
  where j.id = $1 and j.fence = $2 and j.worker is not null
    and exists (select from quarterdeck.job_history h where h.id = j.id and h.queue = j.queue)
  returning j.*
), {free_unique_keys}
select e.id from ended e
