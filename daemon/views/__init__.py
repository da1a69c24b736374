"""Read-only answers as frozen values, and the pure text that shows them. Nothing here takes, writes or sends."""
