// Records how the official client of version 1, npm's x402-fetch, unmodified and with its default limit, pays one POST.
//
//   mkdir /tmp/v1 && cp record_v1.mjs /tmp/v1 && cd /tmp/v1 && npm install --ignore-scripts x402-fetch@1.2.0 viem@2.57.20
//   X402_PRIVATE_KEY=0x… node record_v1.mjs URL JSON-BODY > exchange.json
//
// The packages come to 673 MB, so the tests replay what was recorded: coordinator/src/domain/rentals/tests/testdata/x402_v1_exchange.json.
// Prints {"recorded": with what and when, "exchange": [{"request", "response"}, …]}: what left this client and what came back, headers in
// lower case, bodies as they were. The runtime's own headers (host, user-agent, accept…) aren't among those that the client sets.
import { readFileSync } from "node:fs";
import { createSigner, wrapFetchWithPayment } from "x402-fetch";

const [url, body] = process.argv.slice(2);
const key = process.env.X402_PRIVATE_KEY;
if (!url || !body || !key) {
  console.error("usage: X402_PRIVATE_KEY=0x… node record_v1.mjs URL JSON-BODY");
  process.exit(2);
}
const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
const exchange = [];

// what the client calls instead of fetch: the same, noted
async function noted(input, init) {
  const response = await fetch(input, init);
  const headers = Object.fromEntries(new Headers(init.headers));
  exchange.push({
    request: { method: init.method, url: String(input), headers, body: init.body },
    response: { status: response.status, headers: Object.fromEntries(response.headers), body: await response.clone().text() },
  });
  return response;
}

const signer = await createSigner("base-sepolia", key);
const pay = wrapFetchWithPayment(noted, signer);
await pay(url, { method: "POST", headers: { "content-type": "application/json" }, body });
const recorded = {
  client: Object.fromEntries(["x402-fetch", "x402", "viem"].map((name) => [name, version(name)])),
  node: process.versions.node,
  at: new Date().toISOString(),
};
console.log(JSON.stringify({ recorded, exchange }, null, 2));
