"""What changes a repository on the Hub, in a process that can be ended."""
