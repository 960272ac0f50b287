"""Words of the command line, looked at before torch is imported: a mistake in one of them is told at once."""
