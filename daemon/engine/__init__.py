"""The loop: take, standing, look, diff, decide, guard, commit, act, give back. Awaits nothing but ports."""
