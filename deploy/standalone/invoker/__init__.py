"""Runs actions: a pool of containers, each a process group in its own control group."""

from deploy.standalone.invoker.invoker import InvokerClosed, ProcessInvoker
from deploy.standalone.invoker.leftovers import InUse
from deploy.standalone.invoker.settings import InvokerSettings

__all__ = ["InUse", "InvokerClosed", "InvokerSettings", "ProcessInvoker"]
