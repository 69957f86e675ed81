"""The hub's pages: rendered on the server from typed contexts, each with a JSON twin at the same address."""
