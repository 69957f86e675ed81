"""The derivation engine: steps, their keys, plans and runs. Planning reads source; only worker processes import it."""
