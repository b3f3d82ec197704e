"""``python -m hybridcls``: the command ``hybridcls``."""

from hybridcls.cli.main import main

if __name__ == '__main__':
    main()
