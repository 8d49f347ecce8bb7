"""What waits in the broker, and for whom: lengths, deliveries, due times. Redis as kombu lays it out."""
