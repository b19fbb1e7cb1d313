"""The HTTP side of the action interface: ``/init`` and ``/run``."""
