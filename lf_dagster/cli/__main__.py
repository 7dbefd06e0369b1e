"""`python -m lf_dagster.cli` is `lf-dagster`."""

from lf_dagster.cli import main

if __name__ == "__main__":
    main()
