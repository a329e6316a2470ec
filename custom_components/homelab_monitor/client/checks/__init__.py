"""The capability test: its checks, what they look at, and the commands that fix what they find."""
