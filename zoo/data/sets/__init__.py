"""The data sets, one file for each family."""
