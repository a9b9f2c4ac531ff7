"""`python -m ticketguard.commands`: the command line without an installed script."""

from ticketguard.commands import main

main()
