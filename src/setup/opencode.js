// c2c in OpenCode: delivers mail from other agents to the model after tool calls and with prompts,
// and wakes an idle session. `c2c setup opencode` writes this file, and `--undo` removes it.
//
// No error of this plugin may reach the client: without c2c, OpenCode works as if it did not exist.

import { spawn } from "node:child_process"

const HOOK_MS = 2000
/** A listener ends after this time, so that none outlives a killed client for long. */
const LISTEN_S = 300
const OUTPUT_CHARS = 1024 * 1024
const NOTICE =
  "[c2c] Mail from other agents arrived while this session was idle. It follows; this notice was not " +
  "typed by the user. If nothing follows, there is nothing to do."

/** Wraps a hook so that it never throws. */
const quiet =
  (work) =>
  async (...args) => {
    try {
      await work(...args)
    } catch {}
  }

export const C2C = async ({ client, directory }) => {
  /** The server's entry in the configuration: program, environment, session. */
  let c2c
  /** The root session that the user spoke to last, with its agent and model. */
  let current
  let listener
  let closed = false
  /** Mail was announced, and no wake followed yet. */
  let announced = false
  let waking = false
  const busy = new Map()
  const parents = new Map()

  const start = (args) =>
    spawn(c2c.program, ["--session-id", c2c.session, ...args], {
      cwd: directory,
      env: c2c.env,
      stdio: ["pipe", "pipe", "ignore"],
    })

  /** Runs c2c and resolves to its output, empty if it fails, is missing, or takes too long. */
  const ask = (args, input) =>
    new Promise((resolve) => {
      let out = ""
      const child = start(args)
      // Mail that was printed counts as shown, whatever the exit status.
      const done = () => {
        clearTimeout(late)
        resolve(out)
      }
      const late = setTimeout(() => {
        child.kill("SIGKILL")
        done()
      }, HOOK_MS)
      child.on("error", done)
      child.on("close", done)
      child.stdin.on("error", () => {})
      child.stdout.setEncoding("utf8")
      child.stdout.on("data", (text) => {
        if (out.length < OUTPUT_CHARS) out += text
      })
      child.stdin.end(input ? JSON.stringify(input) : "")
    })

  /** Takes mail for the model, as a hook does. */
  const mail = async (event) => {
    const input = { session_id: c2c.session, cwd: directory, hook_event_name: event }
    const out = await ask(["hook"], input)
    return out && JSON.parse(out).hookSpecificOutput?.additionalContext
  }

  /** Whether a session is not that of a sub-agent: mail that a sub-agent reads is seen by no one else. */
  const isRoot = async (id) => {
    if (!parents.has(id)) {
      const found = await client.session.get({ path: { id } })
      if (!found?.data) return false
      parents.set(id, found.data.parentID)
    }
    return !parents.get(id)
  }

  /** Wakes the session if it is idle and still has mail; one wake at a time. */
  const wake = quiet(async () => {
    if (!c2c || !current || !announced || waking || closed || busy.get(current.id)) return
    waking = true
    let woken = false
    try {
      announced = false
      const unread = JSON.parse((await ask(["peek-inbox", "--json"])) || "[]")
      if (!unread.length || busy.get(current.id)) return
      const { id, agent, model } = current
      // Keep the agent and model of the session: mail from a peer must not end plan mode.
      const body = { agent, model, parts: [{ type: "text", text: NOTICE }] }
      const sent = await client.session.promptAsync({ path: { id }, body })
      woken = !sent?.error
    } finally {
      // A successful wake ends when the session is idle again.
      if (!woken) waking = false
    }
  })

  /** Announces mail; a hook takes it. A listener that fails is restarted with the next prompt. */
  const listen = () => {
    // `opencode run` ends when it is idle, so nothing would read later mail.
    if (listener || closed || process.argv.includes("run")) return
    const child = start(["listen", "--json", "--timeout", String(LISTEN_S)])
    listener = child
    child.unref()
    child.stdin.on("error", () => {})
    child.stdin.end()
    child.stdout.unref?.()
    child.stdout.on("data", () => {
      announced = true
      void wake()
    })
    child.on("error", () => (listener = undefined))
    child.on("close", (code) => {
      listener = undefined
      if (code === 0) quiet(listen)()
    })
  }

  return {
    dispose: quiet(() => {
      closed = true
      listener?.kill()
    }),

    // Runs before the servers start. OpenCode passes them no session id, so this sets one.
    config: quiet(async (config) => {
      const server = config.mcp?.c2c
      if (!server?.command?.length || server.enabled === false) return
      // Another copy of this plugin, of the project or of the user, is active already.
      if (server.environment?.C2C_PLUGIN) return
      const session = server.environment?.C2C_MCP_SESSION_ID ?? `opencode-${crypto.randomUUID()}`
      const own = { C2C_MCP_SESSION_ID: session, C2C_MCP_CLIENT_TYPE: "opencode", C2C_PLUGIN: "1" }
      server.environment = { ...server.environment, ...own }
      c2c = { program: server.command[0], session, env: { ...process.env, ...server.environment } }
    }),

    event: quiet(async ({ event }) => {
      const { type, properties } = event
      if (type === "session.created" || type === "session.updated") {
        parents.set(properties.info.id, properties.info.parentID)
      } else if (type === "session.status") {
        busy.set(properties.sessionID, properties.status.type !== "idle")
      } else if (type === "session.deleted") {
        if (current?.id === properties.info.id) current = undefined
        parents.delete(properties.info.id)
        busy.delete(properties.info.id)
      } else if (type === "session.idle" && properties.sessionID === current?.id) {
        busy.set(current.id, false)
        waking = false
        await wake()
      }
    }),

    "chat.message": quiet(async ({ sessionID }, { message, parts }) => {
      if (!c2c || !(await isRoot(sessionID))) return
      current = { id: sessionID, agent: message.agent, model: message.model }
      busy.set(sessionID, true)
      listen()
      const last = parts.at(-1)
      const text = last && (await mail("UserPromptSubmit"))
      if (!text) return
      // Parts are in the order of their ids.
      const own = { id: `${last.id}c2c`, messageID: message.id, sessionID }
      parts.push({ ...own, type: "text", synthetic: true, text })
    }),

    "tool.execute.after": quiet(async ({ sessionID }, output) => {
      // A tool of a server returns `content`, a tool of OpenCode `output`.
      const content = Array.isArray(output?.content)
      if (!c2c || !(content || typeof output?.output === "string")) return
      if (!(await isRoot(sessionID))) return
      const text = await mail("PostToolUse")
      if (!text) return
      if (content) output.content.push({ type: "text", text })
      else output.output += `\n\n${text}`
    }),

    // A shell that the model starts belongs to the same agent.
    "shell.env": quiet(async (_, { env }) => {
      if (c2c) env.C2C_OPENCODE_SESSION_ID = c2c.session
    }),
  }
}
