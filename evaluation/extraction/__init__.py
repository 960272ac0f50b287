"""One pass over images: batches, features and their cache, labelled splits and subsets."""
