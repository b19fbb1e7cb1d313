"""Whether the API's port is free, or who has it."""

from __future__ import annotations

import socket

import psutil

from deploy.cli.connection import guest_key
from deploy.cli.doctor.finding import Finding, ok, warning
from deploy.cli.home import Home
from deploy.cli.processes import running
from rm_agent.openwhisk import OpenWhisk
from rm_agent.openwhisk.properties import STANDALONE_PORT


def port(number: int = STANDALONE_PORT) -> Finding:
    name = f"port {number}"
    service = running(Home().pid_file("server"))
    if service and service.url.endswith(f":{number}"):
        return ok(name, f"the platform that `owl up` started has it (process {service.pid})")
    if _free(number):
        where = f"; `owl up` runs at {service.url}" if service else ""
        return ok(name, f"free{where}")
    holder = _holder(number)
    if OpenWhisk(f"http://127.0.0.1:{number}", guest_key()).ping():
        return warning(
            name,
            f"another OpenWhisk has it ({holder}): not started by `owl up` with this OWL_HOME",
            f"use it as it is, or start your own elsewhere: `owl up --port {number + 1}`",
        )
    return warning(name, f"taken by {holder}", f"stop that, or use another: `owl up --port {number + 1}`")


def _free(number: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _holder(number: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == number and connection.pid:
                return f"process {connection.pid}, {psutil.Process(connection.pid).name()}"
    except psutil.Error:
        pass
    return "a process of another user"
