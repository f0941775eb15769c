"""A full-screen program that reads keys, as the input line or a dialog of a client.

Arguments: LOG KIND WINDOW. Within WINDOW seconds of a paste, Enter is a line end. The program
writes a line to LOG for each text that is submitted and each dialog that is answered.
"""

import os
import subprocess
import sys
import time
import tty

log = open(sys.argv[1], "ab", 0)
kind = sys.argv[2]
window = float(sys.argv[3])
if kind in ("registers", "agent"):
    register = [sys.argv[4], "-s", "s-pane", "register", "--alias", "ann"]
    subprocess.run(register, stdout=subprocess.DEVNULL, check=True)
if kind == "registers":
    # Another program follows in the same terminal.
    sys.exit(0)
tty.setraw(0)
text = b""
pasted = 0.0


def draw():
    if kind in ("dialog", "choice"):
        os.write(1, b"\x1b[H\x1b[2J* c2c - poll_inbox (MCP)\r\n\r\nAllow: rm -rf build ?\r\n"
                    b" > 1. Yes\r\n   2. No\r\n")
    elif kind == "mute":
        os.write(1, b"\x1b[H\x1b[2J* c2c - poll_inbox (MCP)\r\nWorking\r\n")
    elif kind == "keys":
        os.write(1, b"\x1b[H\x1b[2J* c2c - poll_inbox (MCP)\r\nAllow: rm -rf build ?\r\n (y) yes  (a) always  (n) no\r\n")
    else:
        shown = text.replace(b"\n", b"\r\n  ")
        os.write(1, b"\x1b[?2004h\x1b[H\x1b[2J* c2c - poll_inbox (MCP)\r\n\r\n> " + shown)
        if not text:
            os.write(1, b"Type your message\x1b[17D")


draw()
while True:
    keys = os.read(0, 4096)
    if not keys:
        break
    if b"\x1b[200~" in keys:
        pasted = time.time()
        keys = keys.replace(b"\x1b[200~", b"").replace(b"\x1b[201~", b"")
    elif keys.startswith(b"\x1b"):
        # A report, or a key that changes no text.
        keys = b"\n" if keys == b"\x1b\r" else b""
    if kind == "choice" and keys == b"1":
        kind = "input"
        keys = b""
    for key in (bytes([byte]) for byte in keys):
        if kind == "keys":
            log.write(b"PRESSED " + key + b"\n")
            continue
        if key == b"\r" and kind in ("dialog", "mute"):
            log.write(b"ACCEPTED\n")
        elif key == b"\r" and time.time() - pasted >= window:
            log.write(b"SUBMIT " + text.replace(b"\n", b"\\n") + b"\n")
            text = b""
        elif key == b"\r":
            text += b"\n"
        elif key == b"\x7f":
            text = text[:-1]
        else:
            text += key
    draw()
