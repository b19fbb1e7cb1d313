"""What is seen of a node: the runtimes' reports and the platform's activation records."""
