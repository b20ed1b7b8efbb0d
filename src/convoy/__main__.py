"""python -m convoy: the same as the console script `convoy`."""

from convoy.commands.main import command

if __name__ == "__main__":
    command()
