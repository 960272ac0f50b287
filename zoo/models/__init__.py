"""An open network and the ways to one: runs, published weights, networks of one's own."""
