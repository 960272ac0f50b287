"""What the toolkit keeps on the disk between calls: how much, and removing it."""
