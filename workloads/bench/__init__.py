"""One module per `owl bench NAME`."""
