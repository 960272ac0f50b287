"""Features in a file for anyone's own analysis: the task `features`."""
