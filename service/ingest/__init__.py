"""Recording: bodies to columns, limits, one log append a request."""
