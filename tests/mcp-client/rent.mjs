// Calls the tools of an MCP server over stdio with the official client, unmodified.
//
//   node rent.mjs '[["tool", {"argument": 1}], …]' PROGRAM ARGUMENTS…
//
// An argument "<name>" is replaced by what an earlier call answered under that name: `rental_id` is the `id` of the last rental.
// Prints one JSON object: {"server", "tools", "answers"}; an answer is {"isError", "value"} or {"refused": {"code", "message"}}.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const [calls, command, ...args] = process.argv.slice(2);
if (!calls || !command) {
  console.error("usage: node rent.mjs CALLS PROGRAM ARGUMENTS…");
  process.exit(2);
}

const transport = new StdioClientTransport({ command, args, stderr: "inherit" });
const client = new Client({ name: "system-tests", version: "1.0.0" });
await client.connect(transport);
const { tools } = await client.listTools();

const known = {};
const filled = (value) => {
  if (typeof value === "string") {
    return value.replace(/^<(\w+)>$/, (_, name) => known[name] ?? `unknown ${name}`);
  }
  if (Array.isArray(value)) {
    return value.map(filled);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, filled(inner)]));
  }
  return value;
};

const answers = [];
for (const [name, given] of JSON.parse(calls)) {
  try {
    const answer = await client.callTool({ name, arguments: filled(given) });
    const value = answer.structuredContent ?? JSON.parse(answer.content[0].text);
    if (typeof value.id === "string" && value.id.startsWith("rnt_")) {
      known.rental_id = value.id;
    }
    answers.push({ isError: answer.isError === true, value });
  } catch (error) {
    answers.push({ refused: { code: error.code, message: String(error.message) } });
  }
}
console.log(JSON.stringify({ server: client.getServerVersion(), tools, answers }));
await client.close();
