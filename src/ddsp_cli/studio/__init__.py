"""`ddsp studio`: a page in the browser of this computer to record, play, compare and train instruments.

run      start and end the server
guard    refuse requests that do not come from the page
server   answer requests
session  play sounds on instruments; keep analyses between plays
takes    the sounds of the user
live     the microphone of the page, over a WebSocket
teach    training projects, prepared and trained in separate processes
static/  the page itself
"""
