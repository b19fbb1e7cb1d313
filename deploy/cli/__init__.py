"""The owl command."""
