"""The command line: one module per noun, loaded when asked for. It has no logic of its own.

Commands receive the ``App`` object from ``sampan.app`` through click's context and may name its type, not import it.
"""
