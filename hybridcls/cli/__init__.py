"""The command ``hybridcls``: one file a subcommand."""
