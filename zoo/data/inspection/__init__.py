"""The look at a data set without training: facts of each file, duplicates, findings, and the page that shows them."""
