"""Quality without labels, as a task of `evaluate`."""
