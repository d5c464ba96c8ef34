"""How a thing is made: actions as data, and the executors that run them.

Knows processes, files and the build backend interface (PEP 517). Does not know projects, tasks, stores or doit.
"""
