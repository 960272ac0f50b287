"""Being here, it puts this folder on the path: tests below it share its modules, such as ``small_network``."""
