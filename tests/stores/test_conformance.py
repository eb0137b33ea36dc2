"""The shipped suite, taken by every shipped store."""

from conveyor.testing.conformance import *
