"""Ground floor: errors, ids, digests, clock, settings, durable files. It imports nothing of Sampan's above it."""
