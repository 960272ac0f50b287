"""WebDataset: encoded images and labels in tar files."""
