"""Derived tables: immutable files, snapshots named by content, branches and commits, queries over them."""
