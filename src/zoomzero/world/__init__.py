"""The procedural world: long videos in which coloured shapes appear for a while, each carrying a symbol.

At the size of a coarse pass the colour and shape of an object can be told, its symbol cannot: that takes a zoom.
"""
