"""Runs inside a container: the action interface and the machinery of LLM functions."""
