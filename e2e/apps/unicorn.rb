# Read by unicorn where it is told to: as many workers as gunicorn's.
worker_processes 2
