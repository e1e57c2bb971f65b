"""The HTTP API and the page where you draw."""
