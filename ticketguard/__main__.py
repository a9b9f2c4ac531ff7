"""Run ticketguard as a module: `python -m ticketguard --help`."""

from ticketguard.commands import main

if __name__ == "__main__":
    main()
