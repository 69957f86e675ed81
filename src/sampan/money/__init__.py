"""What things cost: the price book of ``sampan.toml``."""
