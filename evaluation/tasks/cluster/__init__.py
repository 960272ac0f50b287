"""k-means on frozen features, and how its clusters agree with labels: the task `cluster`."""
