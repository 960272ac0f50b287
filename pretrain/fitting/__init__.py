"""Fitting a run to its machine: what is left to the device, and how many images go into a forward pass."""
