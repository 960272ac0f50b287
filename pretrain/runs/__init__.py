"""What belongs to a run: its folder, its kNN check, its curve, and the zoo model that is made of it."""
