"""Tools of the project that are no part of the daemon: generators of committed files, and checks on real parts."""
