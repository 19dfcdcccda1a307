"""``python -m vice``: the command ``vice`` where its script is not on the search path."""

from vice.command.console import main

if __name__ == "__main__":
    main()
