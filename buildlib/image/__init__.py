"""Images through a Docker engine: which engine, what it has, what is sent to it, what it made.

Knows the Docker CLI's way of choosing an engine, the engine's API and Dockerfiles. Does not know projects,
stages or doit.
"""
