"""PostgreSQL as the coordinator: the ports of the engine over rows, and the server itself for demo and tests."""
