h.seq as first_seq, h.kind, h.tenant, h.tags, h.workflow_id, h.batch_id
