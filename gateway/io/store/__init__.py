"""What is kept durably, in SQLite: one file for the database itself, one for a gateway, one for a peer."""
