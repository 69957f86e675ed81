"""Runs as they are logged: experiments, parameters, metrics, tags, inputs, artifacts, logged models; their search."""
