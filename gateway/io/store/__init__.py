"""What is kept durably: one SQLite file for a gateway, one for a peer or, instead of it, a PostgreSQL database."""
