// Receives webhooks and checks them with the official library, unmodified.
//
//   node receive.mjs
//
// Prints its port first. Each line on stdin is the secret (whsec_…) to check with from then on, and is answered by "ready". Every
// request is answered 204 if its signature and time hold, else 400, and told in a line: {"ok", "id", "type", "why"}.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

const BODY_BYTES_MAX = 1024 * 1024;
let webhook = null;

const server = createServer(async (request, response) => {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) return response.destroy();
    chunks.push(chunk);
  }
  const told = { ok: false, id: request.headers["webhook-id"] ?? null, type: null, why: null };
  try {
    told.type = webhook.verify(Buffer.concat(chunks).toString("utf8"), request.headers).type;
    told.ok = true;
  } catch (error) {
    told.why = error instanceof Error ? error.message : String(error);
  }
  console.log(JSON.stringify(told));
  response.writeHead(told.ok ? 204 : 400).end();
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
const lines = createInterface({ input: process.stdin });
lines.on("line", (secret) => {
  webhook = new Webhook(secret);
  console.log("ready");
});
lines.on("close", () => process.exit(0));
