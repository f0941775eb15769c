// c2c in OpenCode: mail from other agents reaches the model after its tool calls and with prompts,
// and wakes a session that is idle. Written by `c2c setup opencode`, which also takes it away.
//
// Nothing here may fail into the client: without c2c, OpenCode goes on as if this were not there.

import { spawn } from "node:child_process"

const HOOK_MS = 2000
/** A listener whose client was killed ends by itself after this. */
const LISTEN_S = 300
const OUTPUT_CHARS = 1024 * 1024
const NOTICE =
  "[c2c] Mail from other agents came while this session was idle. It follows; this notice was not " +
  "typed by the user. If nothing follows, there is nothing to do."

/** What a hook of a client must be: it never throws. */
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
  /** Mail was announced that no wake was given for. */
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

  /** What c2c prints, or nothing: also if it fails, is missing, or takes too long. */
  const ask = (args, said) =>
    new Promise((resolve) => {
      let out = ""
      const child = start(args)
      // What was written out counts as shown, however the child ended.
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
      child.stdin.end(said ? JSON.stringify(said) : "")
    })

  /** The mail for the model, taken as a hook takes it. */
  const mail = async (event) => {
    const said = { session_id: c2c.session, cwd: directory, hook_event_name: event }
    const out = await ask(["hook"], said)
    return out && JSON.parse(out).hookSpecificOutput?.additionalContext
  }

  /** A sub-agent's session: what it reads, nobody else would see. */
  const isRoot = async (id) => {
    if (!parents.has(id)) {
      const found = await client.session.get({ path: { id } })
      if (!found?.data) return false
      parents.set(id, found.data.parentID)
    }
    return !parents.get(id)
  }

  /** One wake at a time, only for an idle session, and only if there is mail still. */
  const wake = quiet(async () => {
    if (!c2c || !current || !announced || waking || closed || busy.get(current.id)) return
    waking = true
    let woken = false
    try {
      announced = false
      const unread = JSON.parse((await ask(["peek-inbox", "--json"])) || "[]")
      if (!unread.length || busy.get(current.id)) return
      const { id, agent, model } = current
      // The agent and model of the session: a peer's mail must not leave plan mode.
      const body = { agent, model, parts: [{ type: "text", text: NOTICE }] }
      const sent = await client.session.promptAsync({ path: { id }, body })
      woken = !sent?.error
    } finally {
      // A wake that was given ends when its session is idle again.
      if (!woken) waking = false
    }
  })

  /** Announces mail; what takes it is a hook. One that fails starts again with the next prompt. */
  const listen = () => {
    // A run ends when it is idle: nobody would read what comes then.
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

    // Before the servers start: OpenCode tells them of no session, so this names one.
    config: quiet(async (config) => {
      const server = config.mcp?.c2c
      if (!server?.command?.length || server.enabled === false) return
      // Another copy of this file, of the project or of the user, is at work already.
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
      // A server's tool answers with content, one of OpenCode's own with output.
      const content = Array.isArray(output?.content)
      if (!c2c || !(content || typeof output?.output === "string")) return
      if (!(await isRoot(sessionID))) return
      const text = await mail("PostToolUse")
      if (!text) return
      if (content) output.content.push({ type: "text", text })
      else output.output += `\n\n${text}`
    }),

    // What the model runs in a shell is the same agent.
    "shell.env": quiet(async (_, { env }) => {
      if (c2c) env.C2C_OPENCODE_SESSION_ID = c2c.session
    }),
  }
}
