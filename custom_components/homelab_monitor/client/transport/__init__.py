"""How a host is reached: one SSH connection, its keys, its limits and its commands."""
