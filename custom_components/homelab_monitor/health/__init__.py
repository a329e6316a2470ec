"""What the checks of a host say, and what of it becomes a repair issue."""
