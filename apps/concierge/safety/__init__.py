"""How it goes, for operators, without a word that belongs to the people concerned.

    what happens -> Watch -> logs, one JSON line each on stderr
                          -> metrics, summed up in a table over all processes
                          -> Sentry: errors with the steps that led there, traces, check-ins
    what is wrong -> alerts, raised once and resolved once, to a webhook and to Sentry

What goes out is built, not filtered: facts have names from a list and are numbers or short words, errors are their kind
and place. What their own words say is left out, and so are local variables. Behind that, as a second net, what the
sensitive fields of the present job hold is struck out of every text.
"""

from .opening import open_safety
from .redaction import redact

__all__ = ["open_safety", "redact"]
