"""How Owl is put on machines: the embedded server, Docker, clusters, and the owl command."""
