"""Decides who gets which resources, and enforces it."""
