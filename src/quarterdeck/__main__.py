"""`python -m quarterdeck` is the command line."""

from quarterdeck.cli.main import main

main()
