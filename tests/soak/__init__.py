"""The soak proof: three real processes, real faults, a ledger of what the handlers did, and a checker of it all.

python -m tests.soak --seconds 60

A load generator submits jobs over REST and knows exactly which were accepted. Handlers write each start and end to a
ledger of their own. A seeded schedule kills, stops, ends and cuts off processes, restarts the database, ends its
backends, and loses replies on the way to it. Afterwards `checker` reads the whole history: see `invariants`.
"""
