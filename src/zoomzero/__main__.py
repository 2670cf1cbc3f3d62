"""`python -m zoomzero` is the command `zoomzero`."""

from zoomzero.cli import main

if __name__ == "__main__":
    main()
