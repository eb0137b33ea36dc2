"""The front step of `python -m conveyor_apps.sandbox`."""

import sys

from .entry import main

sys.exit(main())
