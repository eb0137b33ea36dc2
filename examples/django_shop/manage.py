"""`python manage.py conveyor_work`, `python manage.py order lamp`, and all that Django has."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
