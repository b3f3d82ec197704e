"""The command ``hybridcls``, with one file for each subcommand."""
