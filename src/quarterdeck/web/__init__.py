"""The REST interface, on Quart."""
