"""`ddsp studio`: a page in the browser of this computer to record, play, compare and train instruments.

`server` answers the page, behind `guard`; `session` plays; `takes` keeps the sounds; `static/` is the page itself.
"""
