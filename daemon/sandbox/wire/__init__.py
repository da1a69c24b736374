"""The world on the wire: loopback HTTP in one process, a port for each system so that each can go down alone.

request ─▶ listener ─▶ handler ─▶ Sandbox.live(world.perform …) ─▶ rows written ─▶ answer, reset or silence
"""
