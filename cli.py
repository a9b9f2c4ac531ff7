"""Run ticketguard from a checkout: `python cli.py --help`."""

from ticketguard.commands import main

if __name__ == "__main__":
    main()
