"""Send a call and read its answer; the connection."""
