"""What Celery workers say unasked and when asked, and what they are told. kombu's remote control."""
