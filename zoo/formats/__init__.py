"""Foreign checkpoint layouts: opening a file safely, recognising it, and taking the backbone out with every key accounted for."""
