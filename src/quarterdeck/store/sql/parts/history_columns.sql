id, queue, tenant, kind, state, state_reason, state_detail, args, priority, attempt, max_attempts, generation, crashes,
fence, seq, timeout, retry, created_at, run_at, attempted_at, expires_at, ttl, worker, cancel_requested_at, tags, metadata,
progress, errors, timeline, unique_key, concurrency_key, cache_key, cache_ttl, cached_from, workflow_id, batch_id,
parent_id, needs, open_needs, webhook, traceparent, finalized_at, result
