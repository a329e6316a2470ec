"""The results of the checks of a host, and the repair issues for them."""
