"""Keep text from peers from forging lines of the log.

asyncssh logs texts of a server: why it disconnects, why it opens no channel. A line break would begin another line.
"""

import logging
import traceback
from typing import override


class OnlyPrintable(logging.Filter):
    """Escapes invisible characters in records; it gets only those that will be logged."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Escape a record if necessary, and accept it."""
        message = _message(record)
        if not message.isprintable():
            record.msg, record.args = escaped(message), None
        if record.exc_info and record.exc_info[1] and not record.exc_text:
            # A formatter uses an existing text; only the errors' messages in the trace come from outside.
            record.exc_text = _trace(traceback.TracebackException.from_exception(record.exc_info[1]))
        return True


def escape_logs(name: str) -> None:
    """Let a logger write only printable characters; idempotent."""
    logging.getLogger(name).addFilter(_ONLY_PRINTABLE)


def escaped(text: str) -> str:
    r"""Return the text with \n, \x1b, \u202e and the like written out."""
    return text if text.isprintable() else "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])


def _message(record: logging.LogRecord) -> str:
    """Return the formatted message; without its arguments if they do not fit."""
    try:
        return record.getMessage()
    except TypeError, ValueError, LookupError:
        record.args = None
        return str(record.msg)


def _trace(error: traceback.TracebackException) -> str:
    """Return the trace of an error and of its causes, each with its message on one line."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    words = escaped("".join(error.format_exception_only()).rstrip("\n"))
    parts = [_trace(before), ""] if before else []
    return "\n".join([*parts, "".join(error.stack.format()) + words])


_ONLY_PRINTABLE = OnlyPrintable()
