"""People's own data: folders, tables of labels, Hugging Face data sets, torch data sets."""
