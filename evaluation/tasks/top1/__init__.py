"""The accuracy of a network's own classifier."""
