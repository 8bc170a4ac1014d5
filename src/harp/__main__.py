"""`python -m harp` is the command `harp`."""

from harp.cli import main

if __name__ == "__main__":
    main()
