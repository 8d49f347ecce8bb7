"""The sample application as the image runs it: gunicorn and a worker, on a real redis-server."""
