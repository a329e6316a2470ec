"""Kinds of values of fields whose bare type says too little; their limits are in `limits`.

A bare `str` is a name, a bare `float` any number: these mark longer texts, and numbers that are times or shares.
"""

from typing import Annotated

Line = Annotated[str, "line"]
"""A description, an image's name: longer than a name."""
Path = Annotated[str, "path"]
"""A path, or a line of a log."""
Age = Annotated[float, "age"]
"""Seconds between now or the host's boot and another moment, which datetime has to be able to represent."""
Percent = Annotated[float, "percent"]
"""A share of a whole, 0 to 100."""
Epoch = Annotated[float, "epoch"]
"""Unix seconds."""
