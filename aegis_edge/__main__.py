"""``python -m aegis_edge``: the same as the `aegis-edge` command."""

from aegis_edge.cli import main

if __name__ == "__main__":
    main()
