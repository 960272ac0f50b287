"""A linear layer on Places205: the task `places205`."""
