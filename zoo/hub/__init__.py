"""The Hugging Face Hub: pulling zoo models from it and pushing them to it, by its own client and with our own checks."""
