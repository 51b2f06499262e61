"""The rule of the ledger as a model that SPIN checks exhaustively: see ledger.pml."""
