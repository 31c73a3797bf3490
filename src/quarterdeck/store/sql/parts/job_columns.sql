j.id, j.queue, j.tenant, j.kind, j.state, j.state_reason, j.state_detail, j.args, j.priority, j.attempt, j.max_attempts, j.generation, j.crashes,
j.fence, j.seq, j.timeout, j.retry, j.created_at, j.run_at, j.attempted_at, j.expires_at, j.worker, j.tags, j.metadata,
j.progress, j.errors, j.unique_key, j.concurrency_key, j.workflow_id, j.cached_from, j.traceparent
