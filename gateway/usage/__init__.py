"""What was asked for, by whom, and what it took: the ledger, its roll-ups, and questions to them."""
