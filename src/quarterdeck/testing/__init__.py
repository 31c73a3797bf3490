"""For tests of handlers: run one inline, drain queues on a real database, assert what was submitted.

`run_inline` runs one attempt of a handler without any database. `workbench` is a deck on a database of its own where
jobs run only when a test says so; `database_server` is where such databases come from. Failures are AssertionErrors:
any test runner will do, and none is imported.
"""

from quarterdeck.testing.inline import run_inline
from quarterdeck.testing.ran import Line, Published, Ran
from quarterdeck.testing.server import DatabaseServer, database_server
from quarterdeck.testing.workbench import Workbench, workbench

__all__ = [
    "DatabaseServer",
    "Line",
    "Published",
    "Ran",
    "Workbench",
    "database_server",
    "run_inline",
    "workbench",
]
