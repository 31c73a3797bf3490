e.id, e.queue, e.tenant, e.kind, o.state, o.reason, o.detail, e.args, e.priority, e.attempt - o.crash, e.max_attempts, e.generation, e.crashes + o.crash,
e.fence, e.seq + 1, e.timeout, e.retry, e.created_at, e.run_at, e.attempted_at, e.expires_at, e.ttl, e.worker, e.cancel_requested_at, e.tags, e.metadata,
e.progress, case when o.error is null then e.errors else e.errors || o.error::json end,
e.timeline || quarterdeck.entry(e.seq + 1, o.state, null), e.unique_key, e.concurrency_key, e.cache_key, e.cache_ttl, e.cached_from, e.workflow_id, e.batch_id,
e.parent_id, e.needs, e.open_needs, e.webhook, e.traceparent, now(), o.result::json
