"""Attention over one shared prefix: group attention, packed rows, decoding steps."""
