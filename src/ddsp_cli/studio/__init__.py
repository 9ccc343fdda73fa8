"""`ddsp studio`: a page in the browser of this computer to record, play, compare and train instruments.

guard    refuse requests that do not come from the page
server   start, answer requests, end
session  play sounds on instruments; keep analyses between plays
takes    the sounds of the user
live     the microphone of the page, over a WebSocket
teach    training projects, prepared and trained in separate processes
static/  the page itself
"""
