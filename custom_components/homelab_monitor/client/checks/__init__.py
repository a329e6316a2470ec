"""The capability test: its checks, the facts they use, and the commands that fix what they find."""
