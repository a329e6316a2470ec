"""What a host's replies mean over time: rates, lasting items, events and problems."""
