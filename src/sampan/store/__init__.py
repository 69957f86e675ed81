"""Records in SQLite, migrations, the workspace lock, blobs by digest."""
