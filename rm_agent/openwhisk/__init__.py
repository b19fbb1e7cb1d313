"""Client of the OpenWhisk REST API: everything that drives the platform goes through it."""

from rm_agent.openwhisk.activation import Activation
from rm_agent.openwhisk.client import OpenWhisk
from rm_agent.openwhisk.errors import ConfigurationError, OpenWhiskError, StillRunning, Unreachable
from rm_agent.openwhisk.names import EntityName
from rm_agent.openwhisk.properties import Properties, base_url

__all__ = [
    "Activation",
    "ConfigurationError",
    "EntityName",
    "OpenWhisk",
    "OpenWhiskError",
    "Properties",
    "StillRunning",
    "Unreachable",
    "base_url",
]
