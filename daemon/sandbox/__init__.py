"""One simulated world and one scenario language, with two faces: inside (behind the Connector port) and on the wire.

``scenario`` says what is planted, how services answer and how it must end; ``world`` lives it through, with ``now``
handed in; ``inside`` shows it to the engine without a socket, ``tables`` and ``wire`` as real PostgreSQL and real HTTP.
Whoever compares the faces finds equal answers to equal calls.
"""
