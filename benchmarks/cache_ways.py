"""`python -m benchmarks.cache_ways WAY serve …`: `qd` with another cache, to compare with.

`uncached` reads every result with its job, however large it is; `far` has no cache inside the process, so that
everything comes from memcached.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import partial
from unittest.mock import patch

from quarterdeck.cli.main import main
from quarterdeck.engine import parts
from quarterdeck.engine.reader import Reader
from quarterdeck.store import cache, memory

EVERYTHING = 2**31 - 1

WAYS: dict[str, AbstractContextManager[object]] = {
    "uncached": patch.object(parts, "Reader", partial(Reader, largest=EVERYTHING)),
    "far": patch.object(cache, "Memory", partial(memory.Memory, limit=0)),
}

if __name__ == "__main__":
    with WAYS[sys.argv.pop(1)]:
        main()
