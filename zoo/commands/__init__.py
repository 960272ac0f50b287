"""The ``zoo`` command, a file for each group of subcommands. Free of torch until a command needs it."""
