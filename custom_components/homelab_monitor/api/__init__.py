"""What other dashboards and scripts read: rows of the fleet and views of a host, as plain JSON values."""
