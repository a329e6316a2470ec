"""Every step from an address to a watched host, and how it is watched."""
