// An EVM chain on loopback whose code at Base Sepolia's USDC address is TestUSDC.sol, and the official x402 facilitator before it.
//
//   node chain.mjs
//
// Prints one JSON line when both answer: {"rpc": URL, "facilitator": URL, "asset": address}. Ends, with the chain, when its standard input
// is closed: whoever started it can't leave it behind.
//
// Besides the three calls of x402 the server has, for tests:
//   POST /test/mint     {"to", "value"}            test tokens from nothing
//   GET  /test/balance?of=0x…                      {"balance"}: of the token, decimal
//   GET  /test/transfers?to=0x…                    [{"from", "value", "transaction"}]: every Transfer to an address
//   POST /test/behave   {"settle": HOW}            what the next calls of /settle do, each once: "drop_before" and "drop_after" break the
//                                                  connection before or after the money moved, "pending" says settlement_pending
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTcp } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { registerExactEvmScheme } from "@x402/evm/exact/facilitator";
import { createWalletClient, http, parseAbi, publicActions } from "viem";
import { nonceManager, privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

const HERE = dirname(fileURLToPath(import.meta.url));
const ANVIL = join(HERE, "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
const ASSET = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const NETWORK = "eip155:84532";
// the first account of the well-known development mnemonic: worthless by design, and rich on this chain
const KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const BODY_BYTES_MAX = 1 << 20;
const TOKEN = parseAbi([
  "function mint(address to, uint256 value)",
  "function balanceOf(address) view returns (uint256)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

const folder = mkdtempSync(join(tmpdir(), "x402-chain-"));
const state = join(folder, "state.json");
writeFileSync(state, gunzipSync(readFileSync(join(HERE, "anvil-state.json.gz"))));
const rpcPort = await freePort();
const rpc = `http://127.0.0.1:${rpcPort}`;
const anvil = spawn(
  ANVIL,
  ["--host", "127.0.0.1", "--port", String(rpcPort), "--chain-id", "84532", "--load-state", state, "--silent"],
  { stdio: ["ignore", "inherit", "inherit"] },
);
anvil.on("exit", (code) => end(code === 0 ? 0 : 1));
anvil.on("error", (error) => {
  console.error(`anvil can't be started: ${error.message}`);
  end(1);
});
process.stdin.resume();
process.stdin.on("end", () => end(0));
process.on("SIGTERM", () => end(0));

// two of one key must not clash when they settle at the same time
const account = privateKeyToAccount(KEY, { nonceManager });
const client = createWalletClient({ account, chain: baseSepolia, transport: http(rpc) }).extend(publicActions);
await answering();
const facilitator = new x402Facilitator();
registerExactEvmScheme(facilitator, {
  signer: toFacilitatorEvmSigner({ ...client, address: account.address }),
  networks: NETWORK,
});
const turns = [];

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) answer(response, 500, { error: String(error.message ?? error) });
  });
});
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  console.log(JSON.stringify({ rpc, facilitator: `http://127.0.0.1:${port}`, asset: ASSET }));
});

async function serve(request, response) {
  const url = new URL(request.url, "http://localhost");
  const body = request.method === "POST" ? JSON.parse((await read(request)) || "{}") : {};
  switch (`${request.method} ${url.pathname}`) {
    case "GET /supported":
      return answer(response, 200, facilitator.getSupported());
    case "POST /verify":
      return answer(response, 200, await facilitator.verify(body.paymentPayload, body.paymentRequirements));
    case "POST /settle":
      return settle(body, response);
    case "POST /test/mint":
      return answer(response, 200, { transaction: await mint(body.to, BigInt(body.value)) });
    case "GET /test/balance":
      return answer(response, 200, { balance: String(await balanceOf(url.searchParams.get("of"))) });
    case "GET /test/transfers":
      return answer(response, 200, await transfersTo(url.searchParams.get("to")));
    case "POST /test/behave":
      turns.push(body.settle);
      return answer(response, 200, {});
    default:
      return answer(response, 404, { error: "no such call" });
  }
}

async function settle(body, response) {
  const turn = turns.shift();
  if (turn === "drop_before") return response.destroy();
  if (turn === "pending") {
    return answer(response, 200, { success: false, errorReason: "settlement_pending", transaction: "0x00", network: NETWORK });
  }
  const settled = await facilitator.settle(body.paymentPayload, body.paymentRequirements);
  if (turn === "drop_after") return response.destroy();
  return answer(response, 200, settled);
}

async function mint(to, value) {
  const hash = await client.writeContract({ address: ASSET, abi: TOKEN, functionName: "mint", args: [to, value] });
  await client.waitForTransactionReceipt({ hash, pollingInterval: 20 });
  return hash;
}

function balanceOf(of) {
  return client.readContract({ address: ASSET, abi: TOKEN, functionName: "balanceOf", args: [of] });
}

async function transfersTo(to) {
  const [event] = TOKEN.filter((item) => item.type === "event");
  const logs = await client.getLogs({ address: ASSET, event, args: { to }, fromBlock: 0n });
  return logs.map((log) => ({ from: log.args.from, value: String(log.args.value), transaction: log.transactionHash }));
}

async function read(request) {
  let text = "";
  for await (const chunk of request) {
    text += chunk;
    if (text.length > BODY_BYTES_MAX) throw new Error("the body is too long");
  }
  return text;
}

function answer(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

// anvil says nothing when it is there: ask until it answers
async function answering() {
  for (let tries = 0; ; tries += 1) {
    try {
      await client.getChainId();
      return;
    } catch (error) {
      if (tries > 600) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createTcp();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

let ending = false;
function end(code) {
  if (ending) return;
  ending = true;
  anvil.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
  process.exit(code);
}
