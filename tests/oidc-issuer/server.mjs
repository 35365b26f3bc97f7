// An OpenID Connect server for the system tests: the npm package oidc-provider with its own login and consent pages.
//
//   node server.mjs PORT ALG REDIRECT_URI…     listens on 127.0.0.2:PORT, signs ID tokens with ALG (RS256, ES256, EdDSA)
//
// Whoever signs in as <name> has the subject <name>. The e-mail address is <name>@example.org, and verified, except:
// "unverified…" has one that isn't, and "twin-of-<name>" has the address of <name>. Prints one line when it listens.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, alg, ...redirects] = process.argv.slice(2);
if (!port || !alg || redirects.length === 0) {
  console.error("usage: node server.mjs PORT ALG REDIRECT_URI…");
  process.exit(2);
}
const issuer = `http://127.0.0.2:${port}`;

function key(type, options) {
  return generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });
}

function account(name) {
  return {
    accountId: name,
    claims: () => ({
      sub: name,
      email: `${name.replace(/^twin-of-/, "")}@example.org`,
      email_verified: !name.startsWith("unverified"),
    }),
  };
}

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "ramarket",
      client_secret: "a secret of the tests / with : odd + characters",
      redirect_uris: redirects,
      grant_types: ["authorization_code"],
      response_types: ["code"],
      id_token_signed_response_alg: alg,
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  findAccount: (_context, name) => account(name),
  jwks: {
    keys: [
      { ...key("rsa", { modulusLength: 2048 }), kid: "rsa", use: "sig", alg: "RS256" },
      { ...key("ec", { namedCurve: "P-256" }), kid: "ec", use: "sig", alg: "ES256" },
      { ...key("ed25519"), kid: "ed", use: "sig", alg: "EdDSA" },
    ],
  },
  cookies: { keys: ["only for tests"] },
});
provider.listen(Number(port), "127.0.0.2", () => console.log(`listening at ${issuer}`));
