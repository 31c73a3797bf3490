"""The services that move jobs: submit, claim, run, finish, and the loops that keep them honest."""
