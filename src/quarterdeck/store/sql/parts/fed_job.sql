j.seq as first_seq, j.kind, j.tenant, j.tags, j.workflow_id, j.batch_id
