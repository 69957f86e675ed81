"""Who may do what: roles, tokens, sessions, one-time sign-in links. Checking a request is ``sampan.api.guard``."""
