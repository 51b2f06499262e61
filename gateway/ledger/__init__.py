"""The rules of the ledger, as pure state machines."""
