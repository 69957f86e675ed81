"""How a version comes to be in use: who may say so, and on what evidence."""
