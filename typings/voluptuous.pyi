# At run time Home Assistant puts its own validator, probatio, in sys.modules under this name.
from probatio import *  # noqa: F403
