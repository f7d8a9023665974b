"""`python -m opskit` is the `opskit` command."""

from opskit.cli import main

main()
