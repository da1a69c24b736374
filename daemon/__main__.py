"""``python -m daemon`` is the command ``orderheal``."""

from daemon.cli import main

if __name__ == "__main__":
    main()
