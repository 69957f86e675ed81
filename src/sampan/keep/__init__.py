"""What is kept and what goes: retention, pins, clean-up, backup, restore."""
