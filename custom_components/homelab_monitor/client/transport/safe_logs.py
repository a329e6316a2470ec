"""Keep what peers write from looking like lines of the log of our own.

asyncssh logs what a server says: why it disconnects, why it opens no channel. A line of a log ends with the line.
"""

import logging
import traceback
from typing import override


class OnlyPrintable(logging.Filter):
    """Escapes what cannot be seen in records; it sees only those that are to be logged."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record where it has to be, and let it through."""
        message = _message(record)
        if not message.isprintable():
            record.msg, record.args = escaped(message), None
        if record.exc_info and record.exc_info[1] and not record.exc_text:
            # A formatter takes the text that is there; of the trace only the errors' own words come from outside.
            record.exc_text = _trace(traceback.TracebackException.from_exception(record.exc_info[1]))
        return True


def escape_logs(name: str) -> None:
    """Let a logger write nothing but what can be seen; doing it again changes nothing."""
    logging.getLogger(name).addFilter(_ONLY_PRINTABLE)


def escaped(text: str) -> str:
    r"""Return the text with \n, \x1b, \u202e and the like written out."""
    return text if text.isprintable() else "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])


def _message(record: logging.LogRecord) -> str:
    """Return what is logged; of a message that does not fit its arguments, the message."""
    try:
        return record.getMessage()
    except TypeError, ValueError, LookupError:
        record.args = None
        return str(record.msg)


def _trace(error: traceback.TracebackException) -> str:
    """Return the trace of an error and of those behind it, each with its words on one line."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    words = escaped("".join(error.format_exception_only()).rstrip("\n"))
    parts = [_trace(before), ""] if before else []
    return "\n".join([*parts, "".join(error.stack.format()) + words])


_ONLY_PRINTABLE = OnlyPrintable()
