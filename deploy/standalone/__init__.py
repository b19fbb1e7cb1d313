"""An OpenWhisk server in one process, for machines without Docker."""
