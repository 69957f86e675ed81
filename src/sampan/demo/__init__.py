"""The demo: a year of a real shop, played through a workspace's hub in a few minutes.

It does what a user could do, with the means that a user has: commands, HTTP requests and edits of files. It knows
nothing of the log, the lake or the engine beneath.
"""
