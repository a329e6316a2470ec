"""The steps of the dialogs: from an address to a monitored host, and its options."""
