"""The log: contracts, intake, append, seal, read, quarantine, verify. It knows nothing of what is derived from it."""
