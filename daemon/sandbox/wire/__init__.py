"""The world on the wire: loopback HTTP in one process, a port for each system so that each can go down alone.

request ─▶ listener ─▶ handler ─▶ Sandbox.live(world.perform …) ─▶ rows written ─▶ answer, reset or silence

A system of ``daemon/sandbox/systems`` has a file of the same name here, with ``application(see, secret)``: its server, and
``environment(url, secret)``: its address and secrets under the names by which ``config.yaml`` asks for them. One that an
integration service calls upon may have ``extend(app, see, token)``: what that shop's service can do besides.
"""
