"""Measures the main legs on this machine: `python -m bench`."""
