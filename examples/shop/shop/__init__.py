"""A shop that mails, takes orders and writes reports in the background."""
