// Comes back as a wallet, with the official client of sign-in-with-x: fetches a challenge, signs it, and asks.
//
//   node come_back.mjs API_URL [METHOD PATH]...     the private key (0x + 64 digits) in X402_PRIVATE_KEY
//
// Prints a JSON array on stdout: for each METHOD and PATH {"status", "body"}. With the environment variable X402_TERMS (a decoded
// PAYMENT-REQUIRED) it says first what the official checks think of its extensions: {"bazaar": bool, "errors": [...]}.
import { createSIWxPayload, encodeSIWxHeader, validateSIWxMessage, verifySIWxSignature } from "@x402/extensions/sign-in-with-x";
import { validateDiscoveryExtension } from "@x402/extensions/bazaar";
import { isPaymentIdentifierExtension } from "@x402/extensions/payment-identifier";
import { privateKeyToAccount } from "viem/accounts";

const [api, ...asked] = process.argv.slice(2);
const key = process.env.X402_PRIVATE_KEY;
if (!api || !key || asked.length % 2 !== 0) {
  console.error("usage: X402_PRIVATE_KEY=0x… node come_back.mjs API_URL [METHOD PATH]...");
  process.exit(2);
}

const account = privateKeyToAccount(key);
const answers = [];
if (process.env.X402_TERMS) {
  const { extensions } = JSON.parse(process.env.X402_TERMS);
  const { valid, errors } = validateDiscoveryExtension(extensions.bazaar);
  const named = isPaymentIdentifierExtension(extensions["payment-identifier"]);
  answers.push({ bazaar: valid, errors: errors ?? [], named });
}

for (let at = 0; at < asked.length; at += 2) {
  const [method, path] = asked.slice(at, at + 2);
  const url = `${api}${path}`;
  const challenge = await (await fetch(`${api}/auth/wallet/challenge`)).json();
  const chain = challenge.supportedChains[0];
  const info = { ...challenge.info, chainId: chain.chainId, type: chain.type };
  const payload = await createSIWxPayload(info, account, url);
  // what a server of the same make would say of it
  const origin = new URL(api);
  const message = await validateSIWxMessage(payload, origin);
  const signature = await verifySIWxSignature(payload);
  if (!message.isValid || !signature.isValid) {
    console.error(JSON.stringify({ message, signature }));
    process.exit(1);
  }
  const response = await fetch(url, { method, headers: { "SIGN-IN-WITH-X": encodeSIWxHeader(payload) } });
  answers.push({ status: response.status, body: await response.json() });
}
console.log(JSON.stringify(answers));
