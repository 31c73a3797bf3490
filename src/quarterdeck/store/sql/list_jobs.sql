-- Lists jobs of one table, newest first, as one arm of a page: read only. It looks at no more rows, and at no more bytes
-- of rows that fit, than a budget, and marks the row where that ended (stop), so that no filter makes a slow page. The
-- notes between slashes are replaced: the table, where to begin, the filters, those that read large values, the budget.
select {job_columns}, /*end*/ as finalized_at, /*result*/ as result,
  case when j.read < /*bytes*/ then j.fits and /*large filters*/ else false end as shown,
  j.read < /*bytes*/ and (j.place = /*rows*/ or j.read + j.weight >= /*bytes*/) as stop
from (
  select j.*, row_number() over page as place, (sum(j.weight) over page - j.weight)::bigint as read
  from (
    select j.*, f.fits, case when f.fits then {job_weight} + /*result weight*/ else 0 end as weight
    from (
      select j.* from /*table*/ j
      where /*range*/
      order by j.id desc
      limit /*rows*/
    ) j
    cross join lateral (select /*filters*/ as fits) f
  ) j
  window page as (order by j.id desc rows unbounded preceding)
) j
where case when j.read < /*bytes*/ then (j.fits and /*large filters*/) or j.place = /*rows*/ or j.read + j.weight >= /*bytes*/ else false end
order by j.id desc
limit /*limit*/
