"""Scenarios of one MCP client with `c2c mcp`. Usage: session.py SCENARIO C2C."""

import asyncio
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

PATIENCE_S = 90
C2C = sys.argv[2]
LOG_TOOL = os.path.join(os.path.dirname(C2C), "c2c-log")


def identity(name, **more):
    """The environment of an agent with its own session."""
    return {"C2C_MCP_AUTO_REGISTER_ALIAS": name, "C2C_MCP_SESSION_ID": f"s-{name}", **more}


def cli(name, *args):
    """Runs c2c as the session of an agent and returns its standard output."""
    env = {**os.environ, "C2C_MCP_SESSION_ID": f"s-{name}"}
    done = subprocess.run([C2C, *args], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout


def polled(name):
    return json.loads(cli(name, "poll-inbox", "--json"))


def contents(rows):
    return [row["content"] for row in rows]


def events():
    rows = subprocess.run([LOG_TOOL, "export"], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in rows.stdout.splitlines()]


def until(what, condition):
    """Waits for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"timeout: {what}"
        time.sleep(0.002)


# A client that writes plain bytes.


class Raw:
    """A server, and the ends of its pipes or sockets."""

    def __init__(self, env, sockets=False):
        env = {**os.environ, **env}
        if sockets:
            self.to, stdin = socket.socketpair()
            self.back, stdout = socket.socketpair()
        else:
            (stdin, to), (back, stdout) = os.pipe(), os.pipe()
            self.to, self.back = os.fdopen(to, "wb", 0), os.fdopen(back, "rb", 0)
        self.server = subprocess.Popen([C2C, "mcp"], stdin=stdin, stdout=stdout, env=env)
        for end in (stdin, stdout):
            end.close() if sockets else os.close(end)
        self.pending = b""
        self.next_id = 0

    def send_bytes(self, data):
        while data:
            _, ready, _ = select.select([], [self.to], [], PATIENCE_S)
            assert ready, "the server does not read its input"
            data = data[os.write(self.to.fileno(), data[:4096]):]

    def send(self, *messages):
        """Sends messages in one write."""
        lines = [json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages]
        self.send_bytes("".join(lines).encode())

    def call(self, method, **params):
        """A request that has not been sent."""
        self.next_id += 1
        return {"id": self.next_id, "method": method, "params": params}

    def tool(self, name, **arguments):
        return self.call("tools/call", name=name, arguments=arguments)

    def read(self):
        """The next line from the server."""
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.back], [], [], PATIENCE_S)
            assert ready, "the server does not respond"
            data = os.read(self.back.fileno(), 65536)
            assert data, "the server closed its output"
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def answer(self, message_id):
        """The response to one request; other messages are dropped."""
        while True:
            answer = self.read()
            if answer.get("id") == message_id:
                return answer

    def ask(self, message):
        self.send(message)
        return self.answer(message["id"])

    def initialize(self, **experimental):
        info = {"name": "test", "version": "0"}
        capabilities = {"experimental": experimental} if experimental else {}
        answer = self.ask(self.call(
            "initialize", protocolVersion="2025-06-18", capabilities=capabilities,
            clientInfo=info))
        self.send({"method": "notifications/initialized"})
        return answer["result"]

    def unread(self):
        """Number of unread bytes."""
        return struct.unpack("i", fcntl.ioctl(self.back, termios.FIONREAD, b"\0" * 4))[0]

    def close(self):
        """Closes both ends and waits until the server exits."""
        self.to.close()
        self.back.close()
        self.server.wait(PATIENCE_S)


def structured(answer):
    result = answer["result"]
    assert not result.get("isError"), result
    return result["structuredContent"]


def waiting_mail(text="hello"):
    """bob has mail from alice."""
    cli("alice", "register", "--alias", "alice")
    cli("bob", "register", "--alias", "bob")
    cli("alice", "send", "bob", text)


def assert_redelivered():
    rows = polled("bob")
    assert contents(rows) == ["hello"], rows
    assert rows[0].get("redelivered") is True, rows
    assert polled("bob") == []


def unread(sockets):
    waiting_mail()
    raw = Raw(identity("bob"), sockets)
    raw.initialize()
    raw.send(raw.tool("poll_inbox"))
    until("an unread response", lambda: raw.unread() > 100)
    raw.close()
    assert_redelivered()


def unread_pipe():
    unread(sockets=False)


def unread_socket():
    unread(sockets=True)


def unread_pipelined():
    """A client sends a second request before it reads the first response."""
    waiting_mail()
    raw = Raw(identity("bob"))
    raw.initialize()
    raw.send(raw.tool("poll_inbox"))
    until("the first response", lambda: raw.unread() > 100)
    first = raw.unread()
    raw.send(raw.call("ping"))
    until("the second response", lambda: raw.unread() > first)
    raw.close()
    assert_redelivered()


def unread_killed():
    """The server is killed with an unread response, then the client closes."""
    waiting_mail()
    raw = Raw(identity("bob"))
    raw.initialize()
    raw.send(raw.tool("poll_inbox"))
    until("an unread response", lambda: raw.unread() > 100)
    raw.server.send_signal(signal.SIGKILL)
    raw.close()
    assert_redelivered()


def read(sockets):
    waiting_mail()
    raw = Raw(identity("bob"), sockets)
    raw.initialize()
    rows = structured(raw.ask(raw.tool("poll_inbox")))["messages"]
    assert contents(rows) == ["hello"] and "redelivered" not in rows[0], rows
    raw.close()
    assert polled("bob") == []


def read_pipe():
    read(sockets=False)


def read_socket():
    read(sockets=True)


def cancel_race():
    """A client drops the response to a cancelled poll: the next poll must return the mail."""
    cli("alice", "register", "--alias", "alice")
    raw = Raw(identity("bob"))
    raw.initialize()
    for n in range(30):
        cli("alice", "send", "bob", f"m{n}")
        poll, again = raw.tool("poll_inbox"), raw.call("ping")
        cancel = {"method": "notifications/cancelled", "params": {"requestId": poll["id"]}}
        raw.send(poll, cancel, again)
        raw.answer(again["id"])
        rows = structured(raw.ask(raw.tool("poll_inbox")))["messages"]
        assert contents(rows) == [f"m{n}"], (n, rows)
    raw.close()
    assert polled("bob") == []


def cancel_crossing():
    """A client cancels a poll after its response was written, and drops the response."""
    waiting_mail()
    raw = Raw(identity("bob"))
    raw.initialize()
    poll, again = raw.tool("poll_inbox"), raw.tool("poll_inbox")
    raw.send(poll)
    until("a response to drop", lambda: raw.unread() > 100)
    raw.send({"method": "notifications/cancelled", "params": {"requestId": poll["id"]}})
    rows = structured(raw.ask(again))["messages"]
    assert contents(rows) == ["hello"] and rows[0].get("redelivered") is True, rows
    raw.close()
    assert polled("bob") == []


def resources():
    """The inbox and each room: listed, read and announced when they change; no mail is claimed."""
    for name in ("alice", "bob"):
        cli(name, "register", "--alias", name)
        cli(name, "rooms", "join", "den")
    raw = Raw(identity("bob"))
    assert raw.initialize()["capabilities"]["resources"]["subscribe"] is True
    listed = raw.ask(raw.call("resources/list"))["result"]["resources"]
    assert [row["uri"] for row in listed] == ["c2c://inbox", "c2c://room/den"], listed

    def read(uri):
        [content] = raw.ask(raw.call("resources/read", uri=uri))["result"]["contents"]
        return contents(json.loads(content["text"]))

    assert read("c2c://inbox") == [] and read("c2c://room/den") == []
    for uri, args in [
        ("c2c://inbox", ("send", "bob", "direct")),
        ("c2c://room/den", ("rooms", "send", "den", "to all")),
    ]:
        assert raw.ask(raw.call("resources/subscribe", uri=uri))["result"] == {}
        cli("alice", *args)
        note = raw.read()
        assert note["method"] == "notifications/resources/updated", note
        assert note["params"]["uri"] == uri, note
        assert raw.ask(raw.call("resources/unsubscribe", uri=uri))["result"] == {}
    assert read("c2c://room/den") == ["to all"]
    assert read("c2c://inbox") == ["direct", "to all"]
    unknown = raw.ask(raw.call("resources/read", uri="c2c://room/other"))
    assert "error" in unknown, unknown
    raw.close()
    assert contents(polled("bob")) == ["direct", "to all"]


def channel():
    """Mail is pushed to a client that declared the channel, and then counts as read."""
    cli("alice", "register", "--alias", "alice")
    raw = Raw(identity("bob", C2C_MCP_AUTO_DRAIN_CHANNEL="1"))
    raw.initialize(**{"claude/channel": {}})
    cli("alice", "send", "bob", "pushed")
    note = raw.read()
    assert note["method"] == "notifications/claude/channel", note
    assert note["params"]["content"] == "pushed", note
    assert note["params"]["meta"]["from"] == "alice", note
    assert structured(raw.ask(raw.tool("poll_inbox")))["messages"] == []
    raw.close()
    assert polled("bob") == []


def channel_undeclared():
    """The channel is requested by the environment or declared by the client, not both."""
    cli("alice", "register", "--alias", "alice")
    cli("bob", "register", "--alias", "bob")
    declared = {"claude/channel": {}}
    for n, (wanted, experimental) in enumerate([("1", {}), ("0", declared), ("", declared)]):
        raw = Raw(identity("bob", C2C_MCP_AUTO_DRAIN_CHANNEL=wanted))
        raw.initialize(**experimental)
        cli("alice", "send", "bob", f"m{n}")
        if wanted == "1":
            # The client may read the channel without declaring it: it receives a notice only.
            note = raw.read()
            assert note["method"] == "notifications/claude/channel", note
            assert "poll_inbox" in note["params"]["content"] and "m0" not in str(note), note
            assert note["params"]["meta"] == {"to": "bob", "unread": "1"}, note
        # A server that pushes does so before it answers a later request.
        rows = structured(raw.ask(raw.tool("poll_inbox", wait_s=20)))["messages"]
        assert contents(rows) == [f"m{n}"] and raw.unread() == 0, rows
        raw.close()


def channel_and_protocol():
    """The newer protocol has no channel: if one is requested, its first request is rejected."""
    for wanted, refused in [("1", True), ("", False)]:
        raw = Raw(identity("bob", C2C_MCP_AUTO_DRAIN_CHANNEL=wanted))
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": {}}
        question = raw.call("server/discover", _meta=meta)
        raw.send(question)
        answer = raw.answer(question["id"])
        assert (answer.get("error", {}).get("code") == -32601) == refused, answer
        raw.close()


def progress():
    """A client that passes a progress token receives progress while a call waits."""
    raw = Raw(identity("bob"))
    raw.initialize()
    poll = raw.tool("poll_inbox", wait_s=20)
    poll["params"]["_meta"] = {"progressToken": "p1"}
    raw.send(poll)
    note = raw.read()
    assert note["method"] == "notifications/progress", note
    assert note["params"]["progressToken"] == "p1" and note["params"]["total"] == 20, note
    cli("alice", "register", "--alias", "alice")
    cli("alice", "send", "bob", "hello")
    assert contents(structured(raw.answer(poll["id"]))["messages"]) == ["hello"]
    raw.close()


def codex_idle():
    """An idle Codex thread gets a turn for waiting mail, without the text of the mail."""
    queued_turn = os.path.join(os.environ["HOME"], "turn")
    program = os.path.join(os.environ["HOME"], "codex")
    with open(program, "w", encoding="utf-8") as file:
        file.write('#!/bin/sh\necho "$@" > "$HOME/new" && mv "$HOME/new" "$HOME/turn"\n')
    os.chmod(program, 0o700)
    path = os.path.dirname(program) + ":" + os.environ["PATH"]
    env = {"C2C_MCP_AUTO_REGISTER_ALIAS": "walker", "C2C_MCP_CLIENT_TYPE": "codex", "PATH": path}
    raw = Raw(env)
    raw.initialize()
    whoami = raw.tool("whoami")
    whoami["params"]["_meta"] = {"threadId": "thread-1"}
    assert structured(raw.ask(whoami))["alias"] == "walker"
    cli("alice", "register", "--alias", "alice")
    cli("alice", "send", "walker", "hello")
    until("a turn is queued", lambda: os.path.exists(queued_turn))
    with open(queued_turn, encoding="utf-8") as file:
        turn = file.read()
    assert turn.startswith("queue --thread thread-1 --message c2c: mail"), turn
    assert "hello" not in turn, turn
    raw.close()


def channel_dnd():
    """Do-not-disturb holds mail back, and the mail is pushed when it ends."""
    cli("alice", "register", "--alias", "alice")
    raw = Raw(identity("bob", C2C_MCP_AUTO_DRAIN_CHANNEL="1"))
    raw.initialize(**{"claude/channel": {}})
    dnd = raw.tool("set_dnd", on=True)
    assert structured(raw.ask(dnd))["dnd"] is True
    sent = json.loads(cli("alice", "send", "bob", "quiet", "--json"))
    assert sent["recipient_dnd"] is True and sent["recipient_state"] == "dnd", sent
    assert contents(structured(raw.ask(raw.tool("peek_inbox")))["messages"]) == ["quiet"]
    off = raw.tool("set_dnd", on=False)
    raw.send(off)
    lines = [raw.read(), raw.read()]
    [answer] = [line for line in lines if line.get("id") == off["id"]]
    assert structured(answer)["dnd"] is False, answer
    [note] = [line for line in lines if line.get("method") == "notifications/claude/channel"]
    assert note["params"]["content"] == "quiet", note
    # Do-not-disturb with an end in the past has no effect.
    past = raw.tool("set_dnd", on=True, until_epoch=time.time() - 1)
    raw.ask(past)
    sent = json.loads(cli("alice", "send", "bob", "loud", "--json"))
    assert "recipient_dnd" not in sent, sent
    assert raw.read()["params"]["content"] == "loud"
    raw.close()
    assert polled("bob") == []


def moved_back(seconds):
    """Copies the log to another root, with times that are `seconds` earlier."""
    rows = events()
    for row in rows:
        row["time_us"] -= seconds * 1_000_000
    root = os.environ["C2C_MCP_BROKER_ROOT"] + "-earlier"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    subprocess.run([LOG_TOOL, "import", "-", "--to", root], input=text, text=True, check=True,
                   stdout=subprocess.DEVNULL)
    os.environ["C2C_MCP_BROKER_ROOT"] = root


def heartbeat():
    """Heartbeats are recorded for an active client once a minute, and for an idle one not."""
    cli("bob", "register", "--alias", "bob")
    moved_back(120)

    def seen():
        return json.loads(cli("bob", "list", "--json"))[0]["last_seen"]

    def kinds():
        return [row["kind"] for row in events()]

    before = seen()
    raw = Raw({"C2C_MCP_SESSION_ID": "s-bob"})
    raw.initialize()
    raw.ask(raw.call("ping"))
    assert seen() == before
    for tool in ("whoami", "list", "poll_inbox", "whoami"):
        structured(raw.ask(raw.tool(tool)))
    assert seen() > before, (seen(), before)
    assert kinds() == ["session_registered", "session_heartbeat"], kinds()
    raw.close()
    # No heartbeat is recorded for a session that never registered.
    raw = Raw({"C2C_MCP_SESSION_ID": "s-nobody"})
    raw.initialize()
    structured(raw.ask(raw.tool("whoami")))
    raw.close()
    assert len(kinds()) == 2, kinds()


def superseded():
    """A session whose alias another session took over gets an error and none of the mail."""
    cli("alice", "register", "--alias", "alice")
    raw = Raw({"C2C_MCP_SESSION_ID": "s-old"})
    raw.initialize()
    structured(raw.ask(raw.tool("register", alias="bob")))
    # The same client starts another session.
    again = Raw({"C2C_MCP_SESSION_ID": "s-new"})
    again.initialize()
    structured(again.ask(again.tool("register", alias="bob")))
    cli("alice", "send", "bob", "for the new one")
    calls = [("poll_inbox", {}), ("peek_inbox", {}), ("history", {}),
             ("send", {"to_alias": "alice", "content": "as whom?"})]
    for tool, arguments in calls:
        result = raw.ask(raw.tool(tool, **arguments))["result"]
        assert result["isError"], (tool, result)
        assert result["structuredContent"]["error_code"] == "session_superseded", (tool, result)
    assert contents(structured(again.ask(again.tool("poll_inbox")))["messages"]) == [
        "for the new one"]
    raw.close()
    again.close()


BAD_LINES = [b"{not json\n", b"\n", b"\xff\xfe{}\n", b"[]\n", b"42\n", b'{"jsonrpc":"2.0"}\n']


def bad_before():
    raw = Raw(identity("bob"))
    for line in BAD_LINES:
        raw.send_bytes(line)
    early = raw.ask(raw.tool("whoami"))
    assert "error" in early, early
    unknown = raw.ask(raw.call("no/such/method"))
    assert "error" in unknown, unknown
    # Some clients cancel a slow first request before they initialize.
    raw.send({"method": "notifications/cancelled", "params": {"requestId": early["id"]}})
    raw.send({"method": "notifications/initialized"})
    assert raw.ask(raw.call("ping"))["result"] == {}
    assert raw.initialize()["serverInfo"]["name"] == "c2c"
    assert structured(raw.ask(raw.tool("whoami")))["alias"] == "bob"
    raw.close()
    assert raw.server.returncode == 0, raw.server.returncode


def bad_after():
    cli("alice", "register", "--alias", "alice")
    raw = Raw(identity("bob"))
    raw.initialize()

    def lives():
        assert structured(raw.ask(raw.tool("whoami")))["alias"] == "bob"

    for line in BAD_LINES:
        raw.send_bytes(line)
        lives()
    unknown = raw.ask(raw.call("no/such/method"))
    assert unknown["error"]["code"] == -32601, unknown
    tool = raw.ask(raw.tool("no_such_tool"))
    assert tool["error"]["code"] == -32602, tool
    nameless = raw.ask(raw.call("tools/call"))
    assert "error" in nameless, nameless
    raw.send({"method": "notifications/no_such_thing"})
    raw.send({"id": 987654, "result": {"not": "asked for"}})
    lives()
    # Larger than a body may be: an error.
    large = raw.ask(raw.tool("send", to_alias="alice", content="x" * (5 << 20)))["result"]
    assert large["isError"] and large["structuredContent"]["error_code"] == "body_too_large", large
    # Larger than a line may be: dropped, and the next line is read.
    raw.send_bytes(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * (17 << 20) + b'"}\n')
    lives()
    assert structured(raw.ask(raw.tool("send", to_alias="alice", content="y")))["queued"]
    raw.close()
    assert raw.server.returncode == 0, raw.server.returncode


# A client that uses the SDK.


def connect(env, command=None, mode="auto"):
    from mcp import Client, StdioServerParameters

    command = [*(command or []), C2C, "mcp"]
    server = StdioServerParameters(
        command=command[0], args=command[1:], env={**os.environ, **env})
    return Client(server, mode=mode, read_timeout_seconds=PATIENCE_S)


async def result_of(client, tool, arguments):
    """The result of a call; its text and its structured content must be equal."""
    result = await client.call_tool(tool, arguments)
    [block] = result.content
    text, whole = json.loads(block.text), result.structured_content
    if isinstance(text, list):
        assert [rows for rows in whole.values() if isinstance(rows, list)] == [text], (text, whole)
    else:
        assert text == whole, (text, whole)
    return result


async def call(client, tool, **arguments):
    result = await result_of(client, tool, arguments)
    assert not result.is_error, (tool, arguments, result.structured_content)
    return result.structured_content


async def refused(client, tool, code, **arguments):
    result = await result_of(client, tool, arguments)
    assert result.is_error, (tool, arguments, result.structured_content)
    assert result.structured_content["error_code"] == code, result.structured_content
    return result.structured_content


async def tools_of(client, count):
    """The listed tools. Listing first also makes the client check results against schemas."""
    tools = (await client.list_tools()).tools
    for tool in tools:
        assert tool.description and tool.annotations is not None, tool
        assert tool.annotations.read_only_hint is not None, tool
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object", tool
    names = [tool.name for tool in tools]
    assert len(set(names)) == len(names) == count, names
    return set(names)


async def rooms_of(alice, bob):
    joined = await call(alice, "join_room", room_id="den")
    assert [row["alias"] for row in joined["members"]] == ["alice"], joined
    joined = await call(bob, "join_room", room_id="den")
    assert sorted(row["alias"] for row in joined["members"]) == ["alice", "bob"], joined
    said = await call(alice, "send_room", room_id="den", content="to all")
    assert said["delivered_to"] == ["bob"], said
    [row] = [row for row in (await call(bob, "poll_inbox"))["messages"] if "room_id" in row
             and row["content"] == "to all"]
    assert row["room_id"] == "den" and row["from_alias"] == "alice", row
    assert row["event"] == "room_message" and row["to_alias"] == "bob#den", row
    history = (await call(bob, "room_history", room_id="den"))["history"]
    assert "to all" in contents(history), history
    [room] = (await call(bob, "list_rooms"))["rooms"]
    assert room["room_id"] == "den" and sorted(room["members"]) == ["alice", "bob"], room
    left = await call(bob, "leave_room", room_id="den")
    assert left == {"room_id": "den", "members": ["alice"]}, left
    error = await refused(bob, "send_room", "not_a_member", room_id="den", content="still here?")
    assert error["retryable"] is False, error
    await refused(bob, "room_history", "unknown_room", room_id="nowhere")


async def errors_of(alice):
    error = await refused(alice, "send", "unknown_alias", to_alias="bobb", content="x")
    assert error["suggested_alias"] == "bob" and error["ok"] is False, error
    error = await refused(alice, "send", "invalid_argument", to_alias="bob")
    assert error["field"] == "content" and "content" in error["error"], error
    error = await refused(alice, "send", "invalid_argument", to_alias="bob", content=[1])
    assert error["field"] == "content" and "string" in error["error"], error
    error = await refused(alice, "poll_inbox", "invalid_argument", limit="many")
    assert error["field"] == "limit" and "number" in error["error"], error


async def session():
    raw = Raw(identity("carol"))
    raw.initialize()
    listed = raw.ask(raw.call("tools/list"))["result"]
    size = len(json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode())
    assert size <= 8192, size
    raw.close()

    modern, legacy = connect(identity("alice")), connect(identity("bob"), mode="legacy")
    async with modern as alice, legacy as bob:
        core = await tools_of(alice, len(listed["tools"]))
        await tools_of(bob, len(core))
        assert "registered as 'alice'" in alice.instructions, alice.instructions
        me = await call(alice, "whoami")
        assert me["alias"] == "alice" and me["session_id"] == "s-alice", me
        assert me["registered"] is True and me["canonical_alias"].startswith("alice@"), me
        peers = {row["alias"]: row["alive"] for row in (await call(alice, "list"))["peers"]}
        assert peers["alice"] is True and peers["bob"] is True, peers

        sent = await call(alice, "send", to_alias="bob", content="one")
        assert sent["queued"] is True and sent["from_alias"] == "alice", sent
        assert contents((await call(bob, "peek_inbox"))["messages"]) == ["one"]
        [row] = (await call(bob, "poll_inbox"))["messages"]
        assert row["content"] == "one" and row["message_id"] == sent["message_id"], row
        assert row["from_alias"] == "alice" and row["to_alias"] == "bob", row
        empty = await call(bob, "poll_inbox")
        assert empty == {"messages": [], "remaining": 0, "claimed": 0}, empty

        started = time.monotonic()
        waiting = asyncio.create_task(call(bob, "poll_inbox", wait_s=20))
        # The response to a later request shows that the wait has begun.
        await call(bob, "whoami")
        assert not waiting.done()
        await call(alice, "send", to_alias="bob", content="two", reply_to=sent["message_id"])
        [row] = (await waiting)["messages"]
        assert row["content"] == "two" and row["reply_to"] == sent["message_id"], row
        assert time.monotonic() - started < 15

        await call(alice, "send", to_alias="bob", content="three")
        manual = await call(bob, "poll_inbox", ack="manual")
        assert contents(manual["messages"]) == ["three"] and manual["claim"], manual
        assert (await call(bob, "ack", claim=manual["claim"])) == {"ok": True}
        await refused(bob, "ack", "claim_not_open", claim=manual["claim"])

        await rooms_of(alice, bob)
        await errors_of(alice)
    async with connect(identity("alice", C2C_MCP_TOOLS="all")) as alice:
        assert core < await tools_of(alice, 20)
        assert (await call(alice, "server_info"))["name"] == "c2c"
    assert polled("bob") == []


async def cancelled():
    for mode in ("legacy", "auto"):
        async with connect(identity("alice")) as alice, connect(identity("bob"), mode=mode) as bob:
            waiting = asyncio.create_task(call(bob, "poll_inbox", wait_s=20))
            await call(bob, "whoami")
            assert not waiting.done()
            waiting.cancel()
            try:
                await waiting
                raise AssertionError("the cancelled call returned a result")
            except asyncio.CancelledError:
                pass
            # Answered after the cancellation was read, so the message is sent later.
            await call(bob, "whoami")
            await call(alice, "send", to_alias="bob", content=mode)
            assert contents((await call(bob, "peek_inbox"))["messages"]) == [mode]
            [row] = (await call(bob, "poll_inbox"))["messages"]
            assert row["content"] == mode and "redelivered" not in row, row
            assert (await call(bob, "poll_inbox", wait_s=0.5))["messages"] == []


async def listening():
    """The subscriptions of the protocol of 2026: changes are announced, no mail is claimed."""
    for name in ("alice", "bob"):
        cli(name, "register", "--alias", name)
        cli(name, "rooms", "join", "den")
    wanted = ["c2c://inbox", "c2c://room/den", "c2c://room/other"]
    async with connect(identity("bob")) as bob:
        async with bob.listen(resource_subscriptions=wanted) as changes:
            assert changes.honored.resource_subscriptions == wanted[:2], changes.honored

            async def announced(uri):
                while (await anext(changes)).uri != uri:
                    pass

            cli("alice", "send", "bob", "direct")
            await announced(wanted[0])
            cli("alice", "rooms", "send", "den", "to all")
            await announced(wanted[1])
            assert contents((await call(bob, "peek_inbox"))["messages"]) == ["direct", "to all"]
        rows = (await call(bob, "poll_inbox"))["messages"]
        assert contents(rows) == ["direct", "to all"], rows
        taken = (await call(bob, "history"))["messages"]
        assert contents(taken) == ["direct"] and taken[0]["drained_at"], taken


async def same_alias():
    wanted = {"C2C_MCP_AUTO_REGISTER_ALIAS": "worker"}
    # The second server has another parent process, which runs as long as the server.
    between = [sys.executable, "-B", "-c",
               "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"]
    async with connect(wanted) as first, connect(wanted, between) as second:
        assert (await call(first, "whoami"))["alias"] == "worker"
        me = await call(second, "whoami")
        assert me["alias"] == "worker-2", me
        assert "'worker-2'" in second.instructions, second.instructions
        assert "'worker' is held by a live session" in second.instructions, second.instructions
        await call(first, "send", to_alias="worker-2", content="to the second")
        await call(second, "send", to_alias="worker", content="to the first")
        assert contents((await call(first, "poll_inbox"))["messages"]) == ["to the first"]
        assert contents((await call(second, "poll_inbox"))["messages"]) == ["to the second"]


def main():
    scenario = globals()[sys.argv[1]]
    outcome = scenario()
    if outcome is not None:
        asyncio.run(asyncio.wait_for(outcome, 5 * PATIENCE_S))


if __name__ == "__main__":
    main()
