"""Records of runs, of their steps and of results by key."""
