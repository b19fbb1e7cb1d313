"""Drives and measures the platform through the OpenWhisk API."""
