"""`manage.py conveyor_work`."""
