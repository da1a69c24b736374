"""What is told to operators: logs, metrics, health. All of it subscribes to events; nothing is read back (rule 7)."""
