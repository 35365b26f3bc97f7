// Pays one HTTP request with the official x402 client, unmodified and with its default spend limits.
//
//   node pay.mjs URL [JSON body]     the private key (0x + 64 digits) in X402_PRIVATE_KEY,
//                                    a bearer token in BEARER_TOKEN if the request needs one
//
// Prints one JSON object on stdout: {"status", "body", "receipt", "payer"}; `receipt` is the decoded PAYMENT-RESPONSE (or
// X-PAYMENT-RESPONSE), null without one. Exits 0 when a response came, 1 when the client refused to pay or nothing answered.
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { registerExactEvmScheme } from "@x402/evm/exact/client";
import { privateKeyToAccount } from "viem/accounts";

const [url, body] = process.argv.slice(2);
const key = process.env.X402_PRIVATE_KEY;
if (!url || !key) {
  console.error("usage: X402_PRIVATE_KEY=0x… node pay.mjs URL [JSON body]");
  process.exit(2);
}

const account = privateKeyToAccount(key);
const client = new x402Client();
registerExactEvmScheme(client, { signer: account });
const fetchAndPay = wrapFetchWithPayment(fetch, client);

const headers = {
  ...(body === undefined ? {} : { "content-type": "application/json" }),
  ...(process.env.BEARER_TOKEN ? { authorization: `Bearer ${process.env.BEARER_TOKEN}` } : {}),
};
try {
  const response = await fetchAndPay(url, {
    method: body === undefined ? "GET" : "POST",
    headers,
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  const receipt =
    response.headers.get("payment-response") ?? response.headers.get("x-payment-response");
  console.log(
    JSON.stringify({
      status: response.status,
      body: parsed(text),
      receipt: receipt === null ? null : decodePaymentResponseHeader(receipt),
      payer: account.address,
    }),
  );
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
