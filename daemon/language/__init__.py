"""Text to rules, offline, all mistakes at once."""
