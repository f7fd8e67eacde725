"""``python -m msiscale``."""

from msiscale.cli import main

if __name__ == "__main__":  # a worker process imports this, too
    main()
