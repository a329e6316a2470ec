"""What is done on a host at a person's request."""
