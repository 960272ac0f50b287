"""Classification with few labels: the task `semi`."""
