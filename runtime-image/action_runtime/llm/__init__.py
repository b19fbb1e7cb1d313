"""Language models: checkpoints, decoder, sampling and the engine that joins them.

Importing this package is free; each module imports only what it needs, because what an
action imports is part of its cold start.
"""
