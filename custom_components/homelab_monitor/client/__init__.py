"""Knows SSH and hosts, and nothing of Home Assistant: this package could be a library of its own.

Five hops from bytes to state: `ssh` (a line) → `session` (typed sections) → `rates` (per second)
→ the coordinator → a table row. Imports inside are relative, so that `scripts/snapshot` can
import it without the integration around it.
"""
